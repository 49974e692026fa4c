"""Chunks of several choices, of tool calls and of log probabilities, as OpenAI's clients put them together."""

import json
from typing import Any

from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from consumers.sse.chat_chunks import ChunkEncoder
from consumers.sse.chat_objects import completion_body
from consumers.sse.composition import Composition
from consumers.sse.core import Ending, Identity, Piece
from schemas.content import Content
from schemas.events import Usage
from schemas.generation import TokenLogprob, ToolCallDelta, TopLogprob

USAGE = Usage(prompt_tokens=7, completion_tokens=3)
LIKELY = TokenLogprob(token=Content("Hé"), logprob=-0.5, top=(TopLogprob(token=Content("Ha"), logprob=-1.5),))


def identity(choices: int = 1) -> Identity:
    return Identity("1", 1_700_000_000, "m", "fp", None, choices=choices)


def call(index: int, arguments: str, name: str | None = None) -> tuple[ToolCallDelta, ...]:
    call_id = None if name is None else f"call_{index}"
    return (ToolCallDelta(index=index, id=call_id, name=name, arguments=Content(arguments)),)


def chunks(pieces: list[Piece], ending: Ending, choices: int = 1) -> list[ChatCompletionChunk]:
    encoder = ChunkEncoder(identity(choices), None, include_usage=True)
    body = encoder.opening() + b"".join(map(encoder.piece, pieces)) + encoder.ending(ending, len(pieces), 9)
    frames = body.decode().split("\n\n")[:-1]
    return [ChatCompletionChunk.model_validate_json(frame.removeprefix("data: ")) for frame in frames]


def together(pieces: list[Piece], ending: Ending, choices: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
    """The choices as the SDK puts the stream together, and as the whole object has them."""
    state = ChatCompletionStreamState()
    for chunk in chunks(pieces, ending, choices):
        state.handle_chunk(chunk)
    streamed = state.current_completion_snapshot.model_dump(exclude_none=True)
    whole = ChatCompletion.model_validate_json(completion_body(identity(choices), Composition(pieces), ending))
    return streamed, whole.model_dump(exclude_none=True)


def test_tool_calls_in_pieces_are_whole_calls() -> None:
    pieces = [
        Piece("I look.", 0, 1),
        Piece("", 1, 2, tool_calls=call(0, "", "weather")),
        Piece("", 2, 3, tool_calls=call(0, '{"town":')),
        Piece("", 3, 4, tool_calls=(*call(0, '"Köln\u2028"}'), *call(1, "{}", "time"))),
    ]
    streamed, whole = together(pieces, Ending("tool_calls", USAGE))
    calls = [
        (one["id"], one["function"]["name"], json.loads(one["function"]["arguments"]))
        for one in whole["choices"][0]["message"]["tool_calls"]
    ]
    assert calls == [("call_0", "weather", {"town": "Köln\u2028"}), ("call_1", "time", {})]
    for completion in (streamed, whole):
        message = completion["choices"][0]["message"]
        assert (message["content"], completion["choices"][0]["finish_reason"]) == ("I look.", "tool_calls")
        assert [one["function"]["arguments"] for one in message["tool_calls"]] == ['{"town":"Köln\u2028"}', "{}"]


def test_an_answer_that_only_calls_has_no_content() -> None:
    _, whole = together([Piece("", 0, 1, tool_calls=call(0, "{}", "time"))], Ending("tool_calls", USAGE))
    assert "content" not in whole["choices"][0]["message"]


def test_choices_keep_apart() -> None:
    pieces = [Piece("a", 0, 1), Piece("b", 1, 2, 1), Piece("c", 2, 3), Piece("d", 3, 4, 1)]
    streamed, whole = together(pieces, Ending("stop", USAGE, reasons=("stop", "length")), choices=2)
    for completion in (streamed, whole):
        said = [(one["message"]["content"], one["finish_reason"]) for one in completion["choices"]]
        assert said == [("ac", "stop"), ("bd", "length")]


def test_log_probabilities_are_with_their_tokens() -> None:
    streamed, whole = together([Piece("Hé", 0, 1, logprobs=(LIKELY,))], Ending("stop", USAGE))
    expected = [
        {
            "token": "Hé",
            "logprob": -0.5,
            "bytes": [72, 195, 169],
            "top_logprobs": [{"token": "Ha", "logprob": -1.5, "bytes": [72, 97]}],
        }
    ]
    assert whole["choices"][0]["logprobs"]["content"] == expected
    assert streamed["choices"][0]["logprobs"]["content"] == expected


def test_from_any_piece_on_the_rest_is_the_same() -> None:
    pieces = [Piece("a", 0, 1), Piece("b", 1, 2, 1), Piece("", 2, 3, tool_calls=call(0, "{}", "time"))]
    ending = Ending("stop", USAGE, reasons=("tool_calls", "stop"))

    def stream(after: int | None) -> bytes:
        encoder = ChunkEncoder(identity(2), None, include_usage=True, after=after)
        return encoder.opening() + b"".join(map(encoder.piece, pieces)) + encoder.ending(ending, len(pieces), 9)

    whole = stream(None).split(b"\n\n")
    for after in range(len(pieces)):
        assert stream(after).split(b"\n\n") == whole[2 + after + 1 :]
