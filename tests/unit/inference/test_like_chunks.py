import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.inference.like_chunks import LikeChunks
from consumers.inference.openai_chunks import ChunkReading
from schemas.ports import Generated

BYTES_MAX = 65_536
TEXTS = st.lists(st.text(max_size=8) | st.sampled_from(["a", '"', "\\", '","content":"', "}", "\n"]), max_size=12)
COMPACT, SPACED = (",", ":"), (", ", ": ")


def chunk(separators: tuple[str, str], said: dict[str, Any], **more: Any) -> str:
    body = {"id": "c", "choices": [{"index": 0, "delta": said, "logprobs": None, "finish_reason": None}], **more}
    return json.dumps(body, separators=separators, ensure_ascii=False)


def event(*chunks: str) -> str:
    return "\n\n".join(f"data: {one}" for one in chunks)


def steps(chunks: list[str]) -> list[Generated]:
    reading = ChunkReading(1, BYTES_MAX)
    reading.feed("".join(f"data: {one}\n\n" for one in chunks).encode())
    assert not reading.over
    return reading.take()


@given(TEXTS, st.sampled_from([COMPACT, SPACED]))
def test_what_is_read_without_parsing_is_what_parsing_reads(texts: list[str], separators: tuple[str, str]) -> None:
    found = steps([chunk(separators, {"content": text}) for text in texts])
    said = [text for text in texts if text]
    assert [(step.text, step.tokens) for step in found] == ([("".join(said), len(said))] if said else [])


@pytest.mark.parametrize("separators", [COMPACT, SPACED])
def test_a_chunk_like_the_one_before_is_recognised(separators: tuple[str, str]) -> None:
    like = LikeChunks()
    data = chunk(separators, {"content": "a"})
    assert like.read(event(data)) is None
    like.learn(data, "a")
    assert like.read(event(chunk(separators, {"content": "née "}))) == ("née ", 1)
    for other in (
        chunk(separators, {"content": ""}),
        chunk(separators, {"content": "a control character: \u0001"}),
        chunk(separators, {"content": "a", "tool_calls": []}),
        chunk(separators, {"content": "a"}, usage={"completion_tokens": 2}),
        data[:-2],
    ):
        assert like.read(event(other)) is None


def test_a_run_of_like_chunks_is_one_text_whatever_is_escaped_in_it() -> None:
    like = LikeChunks()
    texts = ["a", 'say "it"', "\n\n", "née", '","content":"', "}]}"]
    events = [chunk(COMPACT, {"content": text}) for text in texts]
    like.learn(events[0], "a")
    assert like.read(event(*events)) == ("".join(texts), len(texts))


@pytest.mark.parametrize("text", ["", "a\\", '\\"', "\u0001"])
def test_one_text_of_which_its_neighbours_could_change_the_meaning_is_parsed(text: str) -> None:
    like = LikeChunks()
    first = chunk(COMPACT, {"content": "a"})
    like.learn(first, "a")
    for run in ([text, "n"], ["n", text]):
        said = [chunk(COMPACT, {"content": one}) for one in run]
        assert like.read(event(*said)) in {None, ("".join(run), 2)}
        (step,) = steps([first, *said])
        assert step.text == "".join(["a", *run])


def test_another_member_of_that_name_is_no_text() -> None:
    like = LikeChunks()
    twice = chunk(COMPACT, {"content": "a", "reasoning": {"content": "a"}})
    like.learn(twice, "a")
    assert like.read(event(twice)) is None


def test_calls_and_log_probabilities_that_are_said_twice_count_twice() -> None:
    call = chunk(COMPACT, {"content": "a", "tool_calls": [{"index": 0, "id": "1", "function": {"name": "f"}}]})
    (step,) = steps([call, call])
    assert (step.text, len(step.tool_calls)) == ("aa", 2)
    scored = json.loads(chunk(COMPACT, {"content": "a"}))
    scored["choices"][0]["logprobs"] = {"content": [{"token": "a", "logprob": -1.0}]}
    (step,) = steps([json.dumps(scored, separators=COMPACT)] * 2)
    assert (step.text, len(step.logprobs)) == ("aa", 2)
