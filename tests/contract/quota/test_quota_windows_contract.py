"""Days, keys, running turns and lost reservations: on the fake and on a real Redis."""

import pytest

from schemas.accounts import KeyLimits
from schemas.limits import LimitWindow
from tests.contract.quota.test_quota_contract import ANN, BOB, Subject, redis_socket, subject
from tests.support.turn_events import turn_id

__all__ = ["redis_socket", "subject"]

DAILY = ANN.model_copy(update={"plan": "daily"})
PAIRED = ANN.model_copy(update={"plan": "paired"})
A_MOMENT_MS = 50


def of(windows: tuple[LimitWindow, ...], kind: str, period: str | None = "day") -> LimitWindow:
    (found,) = (window for window in windows if (window.kind, window.period) == (kind, period))
    return found


async def test_a_day_has_a_quota_of_its_own(subject: Subject) -> None:
    granted = [await subject.ask(number, 10, DAILY) for number in range(5)]
    refused = (await subject.ask(9, 10, DAILY)).grant
    assert [each.scope for each in granted] == [None] * 5
    assert granted[0].limits.limit_requests == 5
    assert refused.refused_by is not None
    assert (refused.refused_by.kind, refused.refused_by.period) == ("requests", "day")
    assert 17_000_000 < refused.retry_after_ms <= 17_280_000


async def test_tokens_of_a_day_are_settled_too(subject: Subject) -> None:
    await subject.ask(1, 1_500, DAILY)
    assert (await subject.ask(2, 1_000, DAILY)).scope == "tokens"
    (windows,) = await subject.quota.settle([(DAILY, turn_id(1), 100)])
    assert windows is not None
    assert of(windows, "tokens").used in {100, 101}
    assert (await subject.ask(3, 1_000, DAILY)).scope is None


async def test_a_key_has_limits_inside_those_of_its_user(subject: Subject) -> None:
    narrow = DAILY.model_copy(update={"key_id": "narrow", "limits": KeyLimits(requests_per_minute=1)})
    first, second = [await subject.ask(number, 10, narrow) for number in (1, 2)]
    assert (first.scope, first.limits.limit_requests) == (None, 1)
    assert second.grant.refused_by is not None
    assert second.grant.refused_by.scope == "key"
    assert (await subject.ask(3, 10, DAILY)).scope is None


async def test_so_many_turns_run_at_once_and_an_end_makes_room(subject: Subject) -> None:
    for number in (1, 2):
        assert (await subject.ask(number, 10, PAIRED)).scope is None
    assert (await subject.ask(3, 10, PAIRED)).scope == "concurrent_turns"
    assert (await subject.ask(4, 10, BOB.model_copy(update={"plan": "paired"}))).scope is None
    await subject.quota.settle([(PAIRED, turn_id(1), 5)])
    again = await subject.ask(5, 10, PAIRED)
    assert again.scope is None
    assert of(again.grant.windows, "concurrent_turns", None).used == 2


async def test_a_lost_turn_gives_everything_back_and_is_named(subject: Subject) -> None:
    for number in (1, 2):
        await subject.ask(number, 900, DAILY.model_copy(update={"key_id": f"k{number}"}), hold_ms=A_MOMENT_MS)
    assert (await subject.ask(3, 2_000, DAILY)).scope == "tokens"
    await subject.advance(A_MOMENT_MS + 1)
    whole = await subject.ask(4, 1_990, DAILY)
    assert whole.scope is None
    assert {(lost.turn_id, lost.key_id, lost.tokens) for lost in whole.grant.lost} == {
        (turn_id(1), "k1", 900),
        (turn_id(2), "k2", 900),
    }
    assert of(whole.grant.windows, "requests").used == 1


async def test_lost_turns_run_no_more(subject: Subject) -> None:
    for number in (1, 2):
        await subject.ask(number, 10, PAIRED, hold_ms=A_MOMENT_MS)
    await subject.advance(A_MOMENT_MS + 1)
    assert (await subject.ask(3, 10, PAIRED)).scope is None


async def test_a_lost_turn_that_comes_after_all_pays(subject: Subject) -> None:
    await subject.ask(1, 900, DAILY, hold_ms=A_MOMENT_MS)
    await subject.advance(A_MOMENT_MS + 1)
    await subject.ask(2, 10, DAILY)
    (windows,) = await subject.quota.settle([(DAILY, turn_id(1), 400)])
    assert windows is not None
    assert of(windows, "tokens").used in {410, 411}
    assert of(windows, "requests").used == 2


async def test_a_settlement_tells_the_same_again(subject: Subject) -> None:
    await subject.ask(1, 900, DAILY)
    (first,) = await subject.quota.settle([(DAILY, turn_id(1), 400)])
    await subject.ask(2, 10, DAILY)
    (again,) = await subject.quota.settle([(DAILY, turn_id(1), 400)])
    assert first is not None
    assert again == first


async def test_a_larger_bill_replaces_a_smaller_one(subject: Subject) -> None:
    """A turn was refused after its admission, and answered when its record came again."""
    await subject.ask(1, 900, DAILY)
    await subject.quota.settle([(DAILY, turn_id(1), 0)])
    (windows,) = await subject.quota.settle([(DAILY, turn_id(1), 400)])
    (again,) = await subject.quota.settle([(DAILY, turn_id(1), 0)])
    assert windows is not None
    assert windows == again
    assert of(windows, "tokens").used in {400, 401}
    assert of(windows, "requests").used == 1


async def test_who_was_refused_has_nothing_to_settle(subject: Subject) -> None:
    await subject.ask(1, 3_000, DAILY)
    assert await subject.quota.settle([(DAILY, turn_id(1), 400), (DAILY, turn_id(7), 1)]) == [None, None]


@pytest.mark.parametrize("tokens", [0, 1_900])
async def test_what_leaked_away_already_is_not_given_back_again(subject: Subject, tokens: int) -> None:
    """The minute's bucket drains an early reservation; a late correction must not drain somebody else's."""
    quick = ANN.model_copy(update={"plan": "quick"})
    await subject.ask(1, 200, quick)
    await subject.advance(250)
    await subject.ask(2, 2_000, quick)
    (windows,) = await subject.quota.settle([(quick, turn_id(2), tokens)])
    assert windows is not None
    assert abs(of(windows, "tokens", "minute").used - tokens) <= 50
