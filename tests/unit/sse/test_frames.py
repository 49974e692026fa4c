"""Golden frames, and text that survives every reader."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.sse.chat_chunks import DONE, ChunkEncoder
from consumers.sse.chat_objects import completion_body
from consumers.sse.composition import Composition
from consumers.sse.core import Ending, Identity, Piece
from consumers.sse.encoding import PING, error_frame
from schemas.cursors import Cursor, CursorSigner, cursor_key
from schemas.errors import server_error
from schemas.events import Usage

STATELESS = Identity("1", 1_700_000_000, "turnstream-fast", "fp_1", None)
STORED = Identity("1", 1_700_000_000, "turnstream-fast", "fp_1", "conv_9")
USAGE = Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=2)
FIXED = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"turnstream-fast",'
    b'"system_fingerprint":"fp_1","service_tier":"default"'
)


NO_DETAILS = {
    "reasoning_tokens": 0,
    "audio_tokens": 0,
    "accepted_prediction_tokens": 0,
    "rejected_prediction_tokens": 0,
}
SIGNER = CursorSigner(cursor_key(b"pepper"), "turn", "tenant", "user")


def encoder(identity: Identity, *, include_usage: bool = False, signer: CursorSigner | None = None) -> ChunkEncoder:
    return ChunkEncoder(identity, signer, include_usage=include_usage)


def piece(text: str) -> Piece:
    return Piece(text, 4, 77)


def payload(frame: bytes) -> Any:
    text = frame.decode()
    assert text.startswith("data: ")
    assert text.endswith("\n\n")
    assert len(text.splitlines()) == 2
    return json.loads(text.removeprefix("data: "))


def split_frames(frames: bytes) -> list[bytes]:
    return [frame + b"\n\n" for frame in frames.split(b"\n\n")[:-1]]


def test_golden_frames_without_usage() -> None:
    frames = encoder(STATELESS)
    choice = FIXED + b',"choices":[{"index":0,"delta":'
    assert frames.opening() == (
        choice + b'{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]}\n\n'
    )
    assert frames.piece(piece('a "b"\n')) == (
        choice + b'{"content":"a \\"b\\"\\n"},"logprobs":null,"finish_reason":null}]}\n\n'
    )
    assert frames.ending(Ending("stop", None), 5, 78) == choice + b'{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
    assert (PING, DONE) == (b": ping\n\n", b"data: [DONE]\n\n")


def test_with_usage_every_chunk_but_the_last_says_null() -> None:
    frames = encoder(STATELESS, include_usage=True)
    for frame in (frames.opening(), frames.piece(piece("x")), frames.ending(Ending("length", None), 5, 78)):
        assert payload(frame)["usage"] is None
        assert len(payload(frame)["choices"]) == 1
    frame, last = map(payload, split_frames(frames.ending(Ending("stop", USAGE), 5, 78)))
    assert frame["usage"] is None
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 0},
        "completion_tokens_details": NO_DETAILS,
    }


def test_a_stored_turn_names_its_conversation_in_every_chunk() -> None:
    frames = encoder(STORED, include_usage=True)
    for frame in (
        frames.opening(),
        frames.piece(piece("x")),
        frames.ending(Ending("stop", None), 5, 78),
        split_frames(frames.ending(Ending("stop", USAGE), 5, 78))[1],
    ):
        assert payload(frame)["conversation_id"] == "conv_9"


def test_a_cancelled_answer_says_so_in_its_last_chunk() -> None:
    last = payload(encoder(STATELESS).ending(Ending("stop", None, cancelled="client"), 5, 78))
    assert (last["choices"][0]["finish_reason"], last["cancelled"]) == ("stop", "client")


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_is_one_line_that_decodes_to_itself(text: str) -> None:
    frame = encoder(STATELESS).piece(piece(text))
    assert payload(frame)["choices"][0]["delta"] == {"content": text}


@pytest.mark.parametrize("character", ["\u0085", "\u2028", "\u2029", "\r", "\x0b", "\x1c", "\\u2028"])
def test_characters_that_some_readers_take_for_line_ends(character: str) -> None:
    assert payload(encoder(STATELESS).piece(piece(character)))["choices"][0]["delta"] == {"content": character}


def test_text_and_end_carry_the_cursor_behind_them() -> None:
    frames = encoder(STATELESS, signer=SIGNER)
    assert SIGNER.verify(payload(frames.piece(piece("x")))["cursor"]) == Cursor(4, 77)
    assert SIGNER.verify(payload(frames.ending(Ending("stop", None), 5, 78))["cursor"]) == Cursor(5, 78)
    assert "cursor" not in payload(frames.opening())


def test_with_ids_a_frame_is_the_same_behind_its_id() -> None:
    plain, resumed = (
        encoder(STATELESS, signer=SIGNER),
        ChunkEncoder(STATELESS, SIGNER, include_usage=False, with_ids=True),
    )
    for one, other in (
        (plain.piece(piece("x")), resumed.piece(piece("x"))),
        (plain.ending(Ending("stop", None), 5, 78), resumed.ending(Ending("stop", None), 5, 78)),
    ):
        cursor = payload(one)["cursor"]
        assert other == f"id: {cursor}\n".encode() + one
    assert resumed.opening() == plain.opening()


def test_an_error_frame_has_all_four_keys() -> None:
    assert payload(error_frame(server_error("Broken.", "generation_failed"))) == {
        "error": {"message": "Broken.", "type": "server_error", "param": None, "code": "generation_failed"}
    }


def test_a_whole_completion() -> None:
    assert json.loads(completion_body(STORED, Composition([piece("Hello")]), Ending("stop", USAGE))) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "turnstream-fast",
        "system_fingerprint": "fp_1",
        "service_tier": "default",
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
            "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 0},
            "completion_tokens_details": NO_DETAILS,
        },
    }
    cancelled = json.loads(
        completion_body(STATELESS, Composition([piece("Hel")]), Ending("stop", None, cancelled="client"))
    )
    assert (cancelled["cancelled"], cancelled["usage"]) == ("client", None)
