import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.inference.like_chunks import LikeChunks, Run
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
    assert like.run(event(data), 0) is None
    like.learn(data, "a")
    same = event(chunk(separators, {"content": "née "}))
    assert like.run(same, 0) == Run("née ", 1, len(same) + 2)
    for other in (
        chunk(separators, {"content": "a", "tool_calls": []}),
        chunk(separators, {"content": "a"}, usage={"completion_tokens": 2}),
        data[:-2],
    ):
        assert like.run(event(other), 0) is None


def test_a_run_of_like_chunks_is_one_text_whatever_is_escaped_in_it() -> None:
    like = LikeChunks()
    texts = ["a", 'say "it"', "\n\n", "née", '","content":"', "}]}", "\u0001"]
    events = event(*(chunk(COMPACT, {"content": text}) for text in texts))
    like.learn(chunk(COMPACT, {"content": "a"}), "a")
    assert like.run(events, 0) == Run("".join(texts), len(texts), len(events) + 2)


def test_a_run_ends_before_one_that_is_not_alike() -> None:
    like = LikeChunks()
    texts = [chunk(COMPACT, {"content": text}) for text in "ab"]
    like.learn(texts[0], "a")
    last = json.dumps({**json.loads(texts[0]), "usage": 1}, separators=COMPACT)
    events = event(*texts, last, "[DONE]")
    found = like.run(events, 0)
    assert found == Run("ab", 2, events.index(event(last, "[DONE]")))
    assert like.run(events, found.end) is None


@pytest.mark.parametrize("text", ["", "a\\", '\\"', "\\", "\\ud83d", '"'])
def test_one_text_of_which_its_neighbours_could_change_the_meaning_is_parsed(text: str) -> None:
    like = LikeChunks()
    first = chunk(COMPACT, {"content": "a"})
    like.learn(first, "a")
    for run in ([text, "n"], ["n", text]):
        said = [chunk(COMPACT, {"content": one}) for one in run]
        found = like.run(event(*said), 0)
        assert found is not None
        assert found.text in {None, "".join(run)}
        (step,) = steps([first, *said])
        assert step.text == "".join(["a", *run])


def test_half_a_character_waits_for_a_parser() -> None:
    like = LikeChunks()
    first = chunk(COMPACT, {"content": "a"})
    like.learn(first, "a")
    halves = [first.replace('"a"', half) for half in ('"\\ud83d"', '"\\ude00"')]
    assert like.run(event(*halves), 0) == Run(None, 2, len(event(*halves)) + 2)


def test_another_member_of_that_name_is_no_text() -> None:
    like = LikeChunks()
    twice = chunk(COMPACT, {"content": "a", "reasoning": {"content": "a"}})
    like.learn(twice, "a")
    assert like.run(event(twice), 0) is None


def test_calls_and_log_probabilities_that_are_said_twice_count_twice() -> None:
    call = chunk(COMPACT, {"content": "a", "tool_calls": [{"index": 0, "id": "1", "function": {"name": "f"}}]})
    (step,) = steps([call, call])
    assert (step.text, len(step.tool_calls)) == ("aa", 2)
    scored = json.loads(chunk(COMPACT, {"content": "a"}))
    scored["choices"][0]["logprobs"] = {"content": [{"token": "a", "logprob": -1.0}]}
    (step,) = steps([json.dumps(scored, separators=COMPACT)] * 2)
    assert (step.text, len(step.logprobs)) == ("aa", 2)
