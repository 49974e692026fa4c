"""Response events: the order that OpenAI's clients rely on, numbers without a gap, and the same from any place on."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from consumers.sse.core import Ending, Identity, Piece
from consumers.sse.response_events import ResponseEncoder
from schemas.content import Content
from schemas.errors import server_error
from schemas.events import Usage
from schemas.generation import TokenLogprob, ToolCallDelta
from schemas.ids import new_turn_id

TURN = new_turn_id(1_700_000_000_000, 3, bytes(8))
SHOWN = {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "metadata": {"a": "b"}}
IDENTITY = Identity(TURN, 1_700_000_000, "m", "fp", "conv_9", "responses", json.dumps(SHOWN), answer_seq=513)
USAGE = Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=2)
STOP = Ending("stop", USAGE)
TEXT = (Piece("Hel", 0, 10), Piece("lo\u2028", 1, 11))
EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


def call(index: int, seq: int, *, name: str | None = None, arguments: str = "") -> Piece:
    call_id = None if name is None else f"call_{index}"
    delta = ToolCallDelta(index=index, id=call_id, name=name, arguments=Content(arguments))
    return Piece("", seq, 10 + seq, tool_calls=(delta,))


CALLS = (call(0, 0, name="weather", arguments='{"t'), call(0, 1, arguments='":1}'), call(1, 2, name="time"))


def stream(pieces: Sequence[Piece], ending: Ending = STOP, after: int | None = None) -> bytes:
    encoder = ResponseEncoder(IDENTITY, after)
    said = b"".join([encoder.opening(), *map(encoder.piece, pieces)])
    return said + encoder.ending(ending, len(pieces), 99) + encoder.settled()


def events(body: bytes) -> list[dict[str, Any]]:
    frames = body.decode().split("\n\n")
    assert frames.pop() == ""
    found = []
    for frame in frames:
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def test_a_text_opens_and_closes_its_message() -> None:
    assert [event["type"].removeprefix("response.") for event in events(stream(TEXT))] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]


def test_calls_come_one_after_the_other_behind_the_text() -> None:
    told = events(stream((TEXT[0], call(0, 1, name="weather", arguments="{}"), call(1, 2, name="time"))))
    places = [(event["type"].removeprefix("response."), event.get("output_index")) for event in told[2:-1]]
    assert places == [
        ("output_item.added", 0),
        ("content_part.added", 0),
        ("output_text.delta", 0),
        ("output_text.done", 0),
        ("content_part.done", 0),
        ("output_item.done", 0),
        ("output_item.added", 1),
        ("function_call_arguments.delta", 1),
        ("function_call_arguments.done", 1),
        ("output_item.done", 1),
        ("output_item.added", 2),
        ("function_call_arguments.done", 2),
        ("output_item.done", 2),
    ]


@pytest.mark.parametrize("pieces", [TEXT, CALLS, (), (*TEXT, call(0, 2, name="weather"))])
def test_the_sdk_knows_every_event_and_numbers_have_no_gap(pieces: Sequence[Piece]) -> None:
    told = events(stream(pieces))
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    for event in told:
        EVENT.validate_python(event)
    whole = Response.model_validate(told[-1]["response"])
    assert (whole.status, whole.metadata) == ("completed", {"a": "b"})
    assert whole.usage is not None
    assert (whole.usage.input_tokens, whole.usage.total_tokens) == (7, 10)
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert [item.model_dump(exclude_unset=True) for item in whole.output] == done


@pytest.mark.parametrize("pieces", [TEXT, CALLS, ()])
def test_from_any_event_on_the_rest_is_the_same(pieces: Sequence[Piece]) -> None:
    whole = stream(pieces).decode().split("\n\n")
    for have in range(len(whole)):
        assert stream(pieces, after=have).decode() == "\n\n".join(whole[have + 1 :])


def test_items_have_the_ids_of_the_conversation() -> None:
    response = events(stream((TEXT[0], call(0, 1, name="weather"))))[-1]["response"]
    assert [item["id"] for item in response["output"]] == ["msg_513", "fc_513_0"]


@pytest.mark.parametrize(
    ("ending", "kind", "status", "reason"),
    [
        (Ending("length", USAGE), "response.incomplete", "incomplete", {"reason": "max_output_tokens"}),
        (Ending("content_filter", USAGE), "response.incomplete", "incomplete", {"reason": "content_filter"}),
        (Ending("stop", None, cancelled="client"), "response.incomplete", "cancelled", None),
        (Ending("tool_calls", USAGE), "response.completed", "completed", None),
    ],
)
def test_an_end_that_is_none(ending: Ending, kind: str, status: str, reason: dict[str, str] | None) -> None:
    last = events(stream(TEXT, ending))[-1]
    assert (last["type"], last["response"]["status"], last["response"]["incomplete_details"]) == (kind, status, reason)


def test_a_failure_ends_with_the_failed_response() -> None:
    encoder = ResponseEncoder(IDENTITY)
    told = events(encoder.opening() + encoder.piece(TEXT[0]) + encoder.failed(server_error("No.", "no")))
    assert told[-1]["type"] == "response.failed"
    assert told[-1]["response"]["error"] == {"code": "no", "message": "No."}
    assert told[-1]["response"]["output"][0]["status"] == "incomplete"


def test_a_view_that_breaks_off_takes_no_number_from_the_turn() -> None:
    encoder = ResponseEncoder(IDENTITY)
    *_, last, broken = events(encoder.opening() + encoder.piece(TEXT[0]) + encoder.broken(server_error("No.", "no")))
    assert broken == {
        "type": "error",
        "code": "no",
        "message": "No.",
        "param": None,
        "sequence_number": last["sequence_number"] + 1,
    }


def test_log_probabilities_are_with_their_text() -> None:
    likely = TokenLogprob(token=Content("Hé"), logprob=-0.5)
    told = events(stream((Piece("Hé", 0, 10, logprobs=(likely,)),)))
    expected = [{"token": "Hé", "logprob": -0.5, "bytes": [72, 195, 169], "top_logprobs": []}]
    deltas = [event["logprobs"] for event in told if event["type"].startswith("response.output_text.")]
    assert deltas == [expected, expected]
    assert told[-1]["response"]["output"][0]["content"][0]["logprobs"] == expected
