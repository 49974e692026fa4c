"""Golden frames, and text that survives every reader."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.sse.core import Ending
from consumers.sse.frames import DONE, PING, ChunkEncoder, Identity, completion_body, error_frame
from schemas.errors import server_error
from schemas.events import Usage

STATELESS = Identity("chatcmpl-1", 1_700_000_000, "turnstream-fast", "fp_1", None)
STORED = Identity("chatcmpl-1", 1_700_000_000, "turnstream-fast", "fp_1", "conv_9")
USAGE = Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=2)
FIXED = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"turnstream-fast",'
    b'"system_fingerprint":"fp_1"'
)


def payload(frame: bytes) -> Any:
    text = frame.decode()
    assert text.startswith("data: ")
    assert text.endswith("\n\n")
    assert len(text.splitlines()) == 2
    return json.loads(text.removeprefix("data: "))


def test_golden_frames_without_usage() -> None:
    frames = ChunkEncoder(STATELESS, include_usage=False)
    choice = FIXED + b',"choices":[{"index":0,"delta":'
    assert frames.role() == (
        choice + b'{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]}\n\n'
    )
    assert frames.text('a "b"\n') == (
        choice + b'{"content":"a \\"b\\"\\n"},"logprobs":null,"finish_reason":null}]}\n\n'
    )
    assert frames.last(Ending("stop", None)) == choice + b'{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
    assert (PING, DONE) == (b": ping\n\n", b"data: [DONE]\n\n")


def test_with_usage_every_chunk_but_the_last_says_null() -> None:
    frames = ChunkEncoder(STATELESS, include_usage=True)
    for frame in (frames.role(), frames.text("x"), frames.last(Ending("length", USAGE))):
        assert payload(frame)["usage"] is None
        assert len(payload(frame)["choices"]) == 1
    last = payload(frames.usage(USAGE))
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 2},
    }


def test_a_stored_turn_names_its_conversation_in_every_chunk() -> None:
    frames = ChunkEncoder(STORED, include_usage=True)
    for frame in (frames.role(), frames.text("x"), frames.last(Ending("stop", None)), frames.usage(USAGE)):
        assert payload(frame)["conversation_id"] == "conv_9"


def test_a_cancelled_answer_says_so_in_its_last_chunk() -> None:
    last = payload(ChunkEncoder(STATELESS, include_usage=False).last(Ending("stop", None, cancelled="client")))
    assert (last["choices"][0]["finish_reason"], last["cancelled"]) == ("stop", "client")


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_is_one_line_that_decodes_to_itself(text: str) -> None:
    frame = ChunkEncoder(STATELESS, include_usage=False).text(text)
    assert payload(frame)["choices"][0]["delta"] == {"content": text}


@pytest.mark.parametrize("character", ["\u0085", "\u2028", "\u2029", "\r", "\x0b", "\x1c", "\\u2028"])
def test_characters_that_some_readers_take_for_line_ends(character: str) -> None:
    assert payload(ChunkEncoder(STATELESS, include_usage=False).text(character))["choices"][0]["delta"] == {
        "content": character
    }


def test_an_error_frame_has_all_four_keys() -> None:
    assert payload(error_frame(server_error("Broken.", "generation_failed"))) == {
        "error": {"message": "Broken.", "type": "server_error", "param": None, "code": "generation_failed"}
    }


def test_a_whole_completion() -> None:
    assert json.loads(completion_body(STORED, "Hello", Ending("stop", USAGE))) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "turnstream-fast",
        "system_fingerprint": "fp_1",
        "conversation_id": "conv_9",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 3,
            "total_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 2},
        },
    }
    cancelled = json.loads(completion_body(STATELESS, "Hel", Ending("stop", None, cancelled="client")))
    assert (cancelled["cancelled"], cancelled["usage"]) == ("client", None)
