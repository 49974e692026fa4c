import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Refusal
from schemas.ids import message_seq
from schemas.models import DEFAULT_CATALOGUE, Catalogue
from schemas.plans import DEFAULT_PLANS
from schemas.ports import Owner
from schemas.topics import TURNS_SUBMITTED
from stream_processors.auth.core import (
    AuthSettings,
    Permit,
    authorized,
    check_owner,
    claims,
    keeps_others_out,
    permit,
)
from stream_processors.auth.routing import Chosen, Entitlements
from tests.support.turn_events import ACCOUNT, conversation_id, received, submitted, turn, user

ENTITLEMENTS = Entitlements(Catalogue.of(DEFAULT_CATALOGUE), DEFAULT_PLANS, AuthSettings().auto_input_tokens_max)
PERMIT = Permit(ACCOUNT, Chosen(DEFAULT_CATALOGUE[0], ()))
ANN = Owner("acme", "ann")


def refused(verdict: Permit | Refusal) -> tuple[int, str | None]:
    assert isinstance(verdict, Refusal)
    return verdict.status, verdict.error.code


def test_a_known_key_may_ask_a_model_of_its_plan() -> None:
    verdict = permit(submitted(turn(model="turnstream-capable")), ACCOUNT, ENTITLEMENTS)
    assert isinstance(verdict, Permit)
    assert (verdict.account, verdict.chosen.card.id) == (ACCOUNT, "turnstream-capable")


def test_an_unknown_key_is_401() -> None:
    assert refused(permit(submitted(turn()), None, ENTITLEMENTS)) == (401, "invalid_api_key")


def test_an_unknown_model_and_one_outside_the_plan_are_told_alike() -> None:
    free = ACCOUNT.model_copy(update={"plan": "free"})
    outside = permit(submitted(turn(model="turnstream-capable")), free, ENTITLEMENTS)
    nowhere = permit(submitted(turn(model="turnstream-nowhere")), free, ENTITLEMENTS)
    assert refused(outside) == refused(nowhere) == (404, "model_not_found")


@pytest.mark.parametrize("plan", ["suspended", "never heard of"])
def test_a_plan_without_models_is_403(plan: str) -> None:
    account = ACCOUNT.model_copy(update={"plan": plan})
    assert refused(permit(submitted(turn()), account, ENTITLEMENTS)) == (403, "plan_without_models")


def test_the_owner_may_continue_a_conversation() -> None:
    continuing = turn(stored=True, starts_conversation=False)
    assert check_owner(continuing, ACCOUNT, {continuing.conversation_id: ANN}) is None


@pytest.mark.parametrize("owner", [None, Owner("acme", "bob"), Owner("other", "ann")])
def test_anybody_elses_conversation_is_404_as_an_unknown_one(owner: Owner | None) -> None:
    continuing = turn(stored=True, starts_conversation=False)
    owners = {} if owner is None else {continuing.conversation_id: owner}
    refusal = check_owner(continuing, ACCOUNT, owners)
    assert refusal is not None
    assert (refusal.status, refusal.error.code) == (404, "conversation_not_found")


@pytest.mark.parametrize("stored", [False, True])
def test_whatever_continues_a_conversation_needs_its_owner(*, stored: bool) -> None:
    assert check_owner(turn(stored=stored, starts_conversation=True), ACCOUNT, {}) is None
    assert check_owner(turn(stored=stored, starts_conversation=False), ACCOUNT, {}) is not None


def test_turns_that_name_what_they_follow_keep_nobody_out() -> None:
    assert keeps_others_out(turn(stored=True))
    assert not keeps_others_out(turn(stored=False))
    assert not keeps_others_out(turn(stored=True, concurrent=True))


def test_only_stored_conversations_that_start_are_claimed_under_their_own_time() -> None:
    turns = [
        turn(1, stored=True, submitted_at_ms=7),
        turn(2, stored=True, submitted_at_ms=8),
        turn(3, stored=True, submitted_at_ms=7),
        turn(4, stored=False),
        turn(5, stored=True, starts_conversation=False),
    ]
    assert claims([(one, PERMIT) for one in turns]) == {
        7: {conversation_id(1): ANN, conversation_id(3): ANN},
        8: {conversation_id(2): ANN},
    }


@given(st.integers(0, 4_095), st.integers(0, 2**43 - 2))
def test_message_seq_grows_with_the_offset_and_leaves_room_for_the_turns_messages(epoch: int, offset: int) -> None:
    first, second = (
        authorized(received(submitted(turn(), user("x")), TURNS_SUBMITTED, offset=place), PERMIT, epoch).message_seq
        for place in (offset, offset + 1)
    )
    assert first == message_seq(epoch, offset, 0)
    assert second - first == 256


def test_authorized_keeps_the_turn_as_it_was() -> None:
    event = submitted(turn(), user("a"), user("b"))
    result = authorized(received(event, TURNS_SUBMITTED), PERMIT, 0)
    assert (result.turn, result.input, result.account, result.pool) == (event.turn, event.input, ACCOUNT, "fast")
