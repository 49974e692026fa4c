from collections.abc import Callable

import pytest
from pydantic import ValidationError

from schemas import errors
from schemas.errors import Fatal, Malformed, OutcomeUnknown, RecordTooLarge, Refusal, Retryable

REFUSALS: dict[str, tuple[Callable[[], Refusal], int]] = {
    "invalid_request": (lambda: errors.invalid_request("No.", "messages", "x"), 400),
    "payload": (lambda: errors.invalid_request("Too big.", status=413), 413),
    "invalid_api_key": (errors.invalid_api_key, 401),
    "model_not_found": (lambda: errors.model_not_found("m"), 404),
    "conversation_not_found": (errors.conversation_not_found, 404),
    "unavailable": (lambda: errors.unavailable("Busy."), 503),
    "conversation_busy": (lambda: errors.conversation_busy("chatcmpl-x"), 409),
    "idempotency_mismatch": (errors.idempotency_mismatch, 422),
    "storage_unavailable": (errors.storage_unavailable, 503),
    "server_error": (lambda: errors.server_error("Ours."), 500),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_has_its_status_and_all_of_openais_keys(name: str) -> None:
    make, status = REFUSALS[name]
    refusal = make()
    assert refusal.status == status
    assert set(refusal.error.model_dump()) - {"active_turn_id"} == {"message", "type", "param", "code"}


def test_a_busy_conversation_names_the_turn_that_runs() -> None:
    assert errors.conversation_busy("chatcmpl-x").error.model_dump()["active_turn_id"] == "chatcmpl-x"
    assert "active_turn_id" not in errors.invalid_api_key().error.model_dump()


def test_our_capacity_says_when_to_come_back() -> None:
    assert errors.unavailable("Busy.", retry_after_s=7).retry_after_s == 7


def test_a_model_name_from_outside_is_cut() -> None:
    assert len(errors.model_not_found("m" * 10_000).error.message) < 200


@pytest.mark.parametrize(("status", "retry_after_s"), [(200, None), (600, None), (399, None), (503, 0)])
def test_impossible_refusals_cannot_be_made(status: int, retry_after_s: int | None) -> None:
    body = errors.server_error("x").error
    with pytest.raises(ValidationError):
        Refusal(status=status, error=body, retry_after_s=retry_after_s)


def test_what_a_consumer_does_follows_from_the_class() -> None:
    assert issubclass(RecordTooLarge, Malformed)
    assert issubclass(OutcomeUnknown, Retryable)
    assert not issubclass(Retryable, Malformed)
    assert not issubclass(Fatal, Malformed | Retryable)
