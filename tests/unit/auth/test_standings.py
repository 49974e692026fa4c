"""What auth makes of abuse signals: who passes, who is slowed and who is kept out, and for how long."""

import pytest

from schemas.abuse import AbuseLevel, AbuseSignalled
from schemas.errors import Refusal
from schemas.models import DEFAULT_CATALOGUE
from schemas.tokens import Refused
from schemas.topics import TURNS_SUBMITTED
from stream_processors.auth import core
from stream_processors.auth.routing import Chosen
from stream_processors.auth.standings import Standings
from stream_processors.topology import AUTH
from tests.support.processor_world import ProcessorWorld
from tests.support.turn_events import ACCOUNT, NOW_MS, received, submitted, turn

PERMIT = core.Permit(ACCOUNT, Chosen(DEFAULT_CATALOGUE[0], ()))
MINUTE_MS = 60_000


def signal(
    level: AbuseLevel, user: str = "ann", until_ms: int | None = NOW_MS + MINUTE_MS, tenant: str = "acme"
) -> AbuseSignalled:
    return AbuseSignalled(tenant_id=tenant, user_id=user, level=level, until_ms=until_ms, signalled_at_ms=NOW_MS)


def obeyed(given: AbuseSignalled | None) -> core.Permit | Refusal:
    return core.obey(submitted(turn()), PERMIT, given, slowed_to=6)


def test_without_a_signal_and_with_a_warning_the_turn_passes_as_it_is() -> None:
    assert obeyed(None) is PERMIT
    assert obeyed(signal(AbuseLevel.WARN)) is PERMIT


def test_a_slowed_user_has_few_requests() -> None:
    verdict = obeyed(signal(AbuseLevel.SLOW))
    assert isinstance(verdict, core.Permit)
    assert verdict.account.slowed_to == 6
    assert verdict.account.model_copy(update={"slowed_to": None}) == ACCOUNT


def test_a_suspended_user_is_told_until_when() -> None:
    verdict = obeyed(signal(AbuseLevel.SUSPEND))
    assert isinstance(verdict, Refusal)
    assert (verdict.status, verdict.error.code, verdict.error.type.value) == (
        403,
        "account_suspended",
        "permission_error",
    )
    assert " UTC " in verdict.error.message
    assert verdict.retry_after_s == 60


def test_a_signal_holds_until_its_end_for_its_user_alone() -> None:
    standings = Standings(10)
    standings.hear(signal(AbuseLevel.SLOW))
    assert standings.find("acme", "ann", NOW_MS + MINUTE_MS - 1) is not None
    assert standings.find("acme", "ann", NOW_MS + MINUTE_MS) is None
    assert standings.find("acme", "bob", NOW_MS) is None
    assert standings.find("other", "ann", NOW_MS) is None


def test_the_last_word_about_a_user_wins() -> None:
    standings = Standings(10)
    for level in (AbuseLevel.SUSPEND, AbuseLevel.WARN):
        standings.hear(signal(level))
    assert standings.find("acme", "ann", NOW_MS) == signal(AbuseLevel.WARN)
    standings.hear(signal(AbuseLevel.NONE, until_ms=None))
    assert standings.find("acme", "ann", NOW_MS) is None
    assert len(standings) == 0


def test_no_flood_of_signals_takes_more_than_the_bound() -> None:
    standings = Standings(10)
    for number in range(100):
        standings.hear(signal(AbuseLevel.WARN, f"u{number}", NOW_MS + number + 1))
        assert len(standings) <= 10
    # Those whose levels last longest are kept.
    assert standings.find("acme", "u99", NOW_MS) is not None
    assert standings.find("acme", "u0", NOW_MS) is None


@pytest.mark.parametrize("level", list(AbuseLevel))
async def test_the_stage_obeys_and_counts(level: AbuseLevel) -> None:
    world = ProcessorWorld()
    world.standings.hear(signal(level))
    (outcome,) = await world.processes()[AUTH]([received(submitted(turn()), TURNS_SUBMITTED)])
    assert not isinstance(outcome, Exception)
    (emit,) = outcome
    key = ("turnstream_abuse_turns_total", f"level={level.value}")
    assert world.metrics.counts.get(key) == (None if level is AbuseLevel.NONE else 1)
    if level is AbuseLevel.SUSPEND:
        assert isinstance(emit.event, Refused)
        assert emit.event.refusal.error.code == "account_suspended"
        return
    slowed_to = 6 if level is AbuseLevel.SLOW else None
    assert getattr(emit.event, "account").slowed_to == slowed_to  # noqa: B009 - it is any event
