"""Why a turn was let in, or not, from the records of the ledger. Pure."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from schemas.limits import LimitLedgered, LimitWindow
from schemas.ports import Record
from schemas.tokens import Refused
from turnstream.trace.reading import read_turn

LIMITER: Final = "rate_limit"
_MS_PER_S: Final = 1_000
_ORDER: Final = {entry: place for place, entry in enumerate(("reserved", "refused", "settled", "released"))}


class LimitReport(BaseModel):
    """What the limiter did for a turn. ``refused`` is the stage that said no, with its code."""

    model_config = ConfigDict(frozen=True)

    turn_id: str
    verdict: Literal["admitted", "refused", "refused elsewhere", "not seen"]
    refused: str | None
    entries: tuple[LimitLedgered, ...]


def build_limit_report(turn_id: str, records: Iterable[Record]) -> LimitReport | None:
    """None without any record of the turn. An entry that was written twice is told once."""
    _, readings = read_turn(records)
    if not readings:
        return None
    events = [reading.event for reading in readings]
    by_entry = {event.entry: event for event in events if isinstance(event, LimitLedgered)}
    entries = sorted(by_entry.values(), key=lambda event: _ORDER[event.entry])
    refusal = next((event for event in events if isinstance(event, Refused)), None)
    refused = None if refusal is None else f"{refusal.stage}: {refusal.refusal.status} {refusal.refusal.error.code}"
    return LimitReport(
        turn_id=turn_id, verdict=_verdict(by_entry.keys(), refusal), refused=refused, entries=tuple(entries)
    )


def explain(report: LimitReport) -> Iterator[str]:
    """The report in words, line by line."""
    yield _headline(report)
    for entry in report.entries:
        yield from _entry_lines(entry)
    if report.verdict == "admitted" and not {"settled", "released"} & {entry.entry for entry in report.entries}:
        yield "It is not settled yet: it runs, or its reservation is given back soon after its deadline."


def _verdict(
    entries: Iterable[str], refusal: Refused | None
) -> Literal["admitted", "refused", "refused elsewhere", "not seen"]:
    found = set(entries)
    if "reserved" in found:
        return "admitted"
    if "refused" in found or (refusal is not None and refusal.stage == LIMITER):
        return "refused"
    return "not seen" if refusal is None else "refused elsewhere"


def _headline(report: LimitReport) -> str:
    whose = next((f" of {e.tenant_id}/{e.user_id}, plan {e.plan}, key {e.key_id}," for e in report.entries), "")
    subject = f"Turn {report.turn_id}{whose}"
    match report.verdict:
        case "admitted":
            later = f" Later it was refused by {report.refused}." if report.refused else ""
            return f"{subject} was admitted.{later}"
        case "refused":
            return f"{subject} was refused by the limiter ({report.refused or 'its answer is not on the log'})."
        case "refused elsewhere":
            return f"{subject} was refused by {report.refused}: the limiter never saw it."
    return f"{subject} has not reached the limiter."


def _entry_lines(entry: LimitLedgered) -> Iterator[str]:
    at = datetime.fromtimestamp(entry.ledgered_at_ms / _MS_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    yield f"{at}  {entry.entry}: {_what(entry)}"
    for window in entry.windows:
        mark = "  <- no room" if entry.refused_by is not None and _same(window, entry.refused_by) else ""
        yield f"    {_name(window)}: {window.used} of {window.limit} used{_reset(window)}{mark}"


def _what(entry: LimitLedgered) -> str:
    match entry.entry:
        case "reserved":
            return f"{entry.tokens} tokens and one request were taken from every quota below."
        case "refused":
            return _refusal(entry)
        case "settled":
            return f"{entry.tokens} tokens were used; the rest of the reservation was given back."
        case "released":
            return (
                "nobody settled it in time, so all of its reservation was given back."
                if entry.tokens
                else "it used nothing, so all of its reservation was given back."
            )


def _refusal(entry: LimitLedgered) -> str:
    window = entry.refused_by
    if window is None:
        return "no quota is named."
    if window.kind == "concurrent_turns":
        return f"{window.used} turns of the user were running; the plan allows {window.limit}."
    if not entry.windows:
        return f"it asked for {entry.tokens} tokens at once; the plan never grants more than {window.limit}."
    asked = 1 if window.kind == "requests" else entry.tokens
    return f"it asked for {asked} of {_name(window)}, where {window.used} of {window.limit} were used."


def _name(window: LimitWindow) -> str:
    period = f" per {window.period}" if window.period else ""
    return f"{window.scope} {window.kind.replace('_', ' ')}{period}"


def _reset(window: LimitWindow) -> str:
    return f", whole again in {window.reset_ms / _MS_PER_S:g} s" if window.reset_ms else ""


def _same(one: LimitWindow, other: LimitWindow) -> bool:
    return (one.scope, one.kind, one.period) == (other.scope, other.kind, other.period)
