"""A turn's admission in words, from the ledger."""

from collections.abc import Sequence
from typing import Any

import pytest

from schemas import serde
from schemas.errors import Refusal, model_not_found, unavailable
from schemas.event import Event
from schemas.limits import LimitLedgered, LimitWindow
from schemas.ports import Record
from schemas.tokens import Refused
from schemas.topics import LIMITS_LEDGER, TOKENS, TURNS_SUBMITTED, Topic
from tests.support.turn_events import NOW_MS, PARTITION, submitted, turn, turn_id
from turnstream.trace.limit_report import LimitReport, build_limit_report, explain

MINUTE = LimitWindow(scope="user", kind="requests", period="minute", limit=60, used=60, reset_ms=60_000)
DAY = LimitWindow(scope="user", kind="tokens", period="day", limit=2_000, used=1_900, reset_ms=9_000)


def entry(kind: str, tokens: int = 400, **changes: Any) -> LimitLedgered:
    values = {
        "turn_id": turn_id(1),
        "tenant_id": "acme",
        "user_id": "ann",
        "key_id": "k1",
        "plan": "free",
        "entry": kind,
        "tokens": tokens,
        "windows": (MINUTE, DAY),
        "ledgered_at_ms": NOW_MS,
    }
    return LimitLedgered.model_validate({**values, **changes})


def refused_by(stage: str, refusal: Refusal) -> Refused:
    return Refused(turn_id=turn_id(1), stage=stage, refusal=refusal)


def report(*told: tuple[Topic, Event]) -> LimitReport:
    records = [
        Record(topic.name, PARTITION, offset, b"k", serde.encode(event), (), NOW_MS + offset)
        for offset, (topic, event) in enumerate(((TURNS_SUBMITTED, submitted(turn())), *told))
    ]
    built = build_limit_report(turn_id(1), records)
    assert built is not None
    return built


def words(of: LimitReport) -> str:
    return "\n".join(explain(of))


def ledger(*entries: LimitLedgered) -> Sequence[tuple[Topic, Event]]:
    return [(LIMITS_LEDGER, each) for each in entries]


def test_an_admitted_turn_tells_its_quotas_and_its_settlement() -> None:
    told = words(report(*ledger(entry("reserved"), entry("settled", 120), entry("settled", 120))))
    assert told.startswith(f"Turn {turn_id(1)} of acme/ann, plan free, key k1, was admitted.")
    assert "user requests per minute: 60 of 60 used, whole again in 60 s" in told
    assert told.count("120 tokens were used") == 1
    assert "not settled yet" not in told


def test_a_running_turn_is_not_settled_yet() -> None:
    assert "not settled yet" in words(report(*ledger(entry("reserved"))))


def test_a_refused_turn_names_the_quota_that_had_no_room() -> None:
    told = report(*ledger(entry("refused", refused_by=DAY)))
    assert told.verdict == "refused"
    assert "it asked for 400 of user tokens per day, where 1900 of 2000 were used." in words(told)
    assert "user tokens per day: 1900 of 2000 used, whole again in 9 s  <- no room" in words(told)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"refused_by": LimitWindow(scope="user", kind="concurrent_turns", limit=2, used=2)},
            "2 turns of the user were running; the plan allows 2.",
        ),
        ({"refused_by": DAY, "windows": ()}, "the plan never grants more than 2000."),
    ],
)
def test_other_refusals_have_words_of_their_own(changes: dict[str, Any], expected: str) -> None:
    assert expected in words(report(*ledger(entry("refused", **changes))))


def test_a_lost_and_an_unused_reservation_are_told_apart() -> None:
    assert "it used nothing" in words(report(*ledger(entry("reserved"), entry("released", 0))))
    assert "nobody settled it in time" in words(report(*ledger(entry("reserved"), entry("released"))))


def test_a_turn_that_another_stage_refused_was_never_asked() -> None:
    told = report((TOKENS, refused_by("auth", model_not_found("x"))))
    assert told.verdict == "refused elsewhere"
    assert "was refused by auth: 404 model_not_found: the limiter never saw it." in words(told)
    later = report(*ledger(entry("reserved")), (TOKENS, refused_by("prompt", unavailable("no"))))
    assert "Later it was refused by prompt: 503" in words(later)


def test_a_turn_on_its_way_has_not_been_seen() -> None:
    assert "has not reached the limiter" in words(report())
    assert build_limit_report(turn_id(1), []) is None
