from dataclasses import replace

import pytest

from consumers.sse.core import Ending, Piece, Step, ending_of, ending_of_stored, limits_of, read_step
from schemas.content import Content
from schemas.errors import Refusal, server_error
from schemas.events import FinishReason, RateLimits, Usage
from schemas.ports import Placed, StoredAnswer, StoredPiece
from schemas.tokens import AttemptStarted, Cancelled, Delta, Failed, Finished, Persisted, Refused

TURN = "0" * 26
USAGE = Usage(prompt_tokens=7, completion_tokens=3)
REFUSAL = server_error("No.", "no")
LIMITS = RateLimits(
    limit_requests=1,
    remaining_requests=0,
    reset_requests_ms=0,
    limit_tokens=1,
    remaining_tokens=0,
    reset_tokens_ms=0,
)
FINISHED = Finished(turn_id=TURN, attempt=1, owner="gpu", seq=2, finish_reason=FinishReason.STOP, usage=USAGE)


def delta(seq: int, text: str) -> Delta:
    return Delta(turn_id=TURN, attempt=1, owner="gpu", seq=seq, content=Content(text), tokens=1)


def test_a_step_adds_to_what_is_known_and_brings_only_new_text() -> None:
    fence = AttemptStarted(turn_id=TURN, attempt=1, owner="gpu")
    first, pieces = read_step([Placed(fence, 7), Placed(delta(0, "a"), 8), Placed(delta(1, "b"), 11)], Step())
    last, no_pieces = read_step([Placed(FINISHED, 12), Placed(Persisted(turn_id=TURN, message_seq=1), 13)], first)
    assert (first, pieces) == (Step(started=True, deltas=2), [Piece("a", 0, 8), Piece("b", 1, 11)])
    assert (no_pieces, last.deltas, last.terminal, last.terminal_offset) == ([], 2, FINISHED, 12)
    assert last.persisted is not None


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (FinishReason.STOP, Ending("stop", USAGE)),
        (FinishReason.LENGTH, Ending("length", USAGE)),
        (FinishReason.CONTENT_FILTER, Ending("content_filter", USAGE)),
        (FinishReason.CANCELLED, Ending("stop", USAGE, cancelled="client")),
    ],
)
def test_every_good_end_has_a_finish_reason_of_openai(reason: FinishReason, expected: Ending) -> None:
    assert ending_of(FINISHED.model_copy(update={"finish_reason": reason})) == expected


def test_every_bad_end_is_an_error() -> None:
    assert ending_of(Failed(turn_id=TURN, refusal=REFUSAL)) == REFUSAL
    assert ending_of(Refused(turn_id=TURN, stage="auth", refusal=REFUSAL)) == REFUSAL
    assert isinstance(ending_of(FINISHED.model_copy(update={"finish_reason": FinishReason.FAILED})), Refusal)


def test_a_cancelled_answer_ends_well() -> None:
    assert ending_of(Cancelled(turn_id=TURN, reason="abandoned")) == Ending("stop", None, cancelled="abandoned")


def test_a_stored_answer_ends_as_it_did_on_the_log() -> None:
    stored = StoredAnswer(TURN, "c", "t", "u", "m", 0, (StoredPiece("a"),), FinishReason.LENGTH, USAGE)
    assert ending_of_stored(stored) == Ending("length", USAGE)
    assert ending_of_stored(replace(stored, finish_reason=FinishReason.CANCELLED)) == Ending("stop", None, "client")
    assert isinstance(ending_of_stored(replace(stored, finish_reason=FinishReason.FAILED)), Refusal)


def test_limits_come_from_whoever_counted() -> None:
    refused = Refused(turn_id=TURN, stage="rate_limit", refusal=REFUSAL, limits=LIMITS)
    assert limits_of(Step(terminal=refused)) == LIMITS
    assert limits_of(Step(terminal=FINISHED)) is None
    assert limits_of(Step()) is None
