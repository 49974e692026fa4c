"""What a run says of itself: faults by kind, how turns ended, and how long clients were left in silence. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.chaos import operations as op
from tests.chaos.checker import CHECKS, Violation
from tests.chaos.inject import Injected
from tests.chaos.operations import Operation
from tests.chaos.schedule import family

# Shorter silences are the pace of the model on a busy machine.
PAUSE_SECONDS_MIN: Final = 0.5
SHOWN_VIOLATIONS_MAX: Final = 20


@dataclass(frozen=True)
class Pause:
    """A silence between two pieces of one answer, in seconds, and what was hurt meanwhile, if one thing was."""

    seconds: float
    cause: str | None


def pauses(operations: Sequence[Operation], injected: Sequence[Injected]) -> Iterator[Pause]:
    """The silences of all streams that their clients read without a break of their own."""
    by_turn: dict[str, list[Operation]] = defaultdict(list)
    for one in operations:
        if one.reader.startswith("main") and one.event in {op.PIECE, op.LEFT}:
            by_turn[one.turn].append(one)
    for noted in by_turn.values():
        for before, after in pairwise(noted):
            silence_s = after.at_s - before.at_s
            if op.LEFT not in {before.event, after.event} and silence_s >= PAUSE_SECONDS_MIN:
                yield Pause(silence_s, _cause(before.at_s, after.at_s, injected))


def summary(
    operations: Sequence[Operation], injected: Sequence[Injected], violations: Sequence[Violation], seconds: float
) -> dict[str, Any]:
    """All figures of a run; times in seconds."""
    outcomes = Counter(_outcome(one) for one in operations if one.event == op.OUTCOME)
    heads = [one.data for one in operations if one.event == op.HEAD]
    return {
        "seconds": round(seconds, 1),
        "turns": sum(outcomes.values()),
        "outcomes": dict(outcomes.most_common()),
        "faults": len(injected),
        "faults_by_kind": dict(Counter(f"{family(one.fault.target)}: {one.fault.kind.value}" for one in injected)),
        "connections_lost": sum(one.event == op.LOST for one in operations),
        "clients_hung_up": sum(one.event == op.LEFT for one in operations),
        "resumed": sum(one.event == op.INVOKE and one.data["what"] == "resume" for one in operations),
        "joined": sum(bool(head.get("replayed")) for head in heads),
        "status": dict(sorted(Counter(str(head["status"]) for head in heads).items())),
        "pauses_s": _pauses_by_cause(list(pauses(operations, injected))),
        "violations": dict(Counter(violation.check for violation in violations)),
    }


def show(console: Console, figures: Mapping[str, Any], violations: Sequence[Violation]) -> None:
    """Print it for a person."""
    faults = Table("fault", "times", title=f"{figures['faults']} faults in {figures['seconds']} s")
    for kind, count in sorted(figures["faults_by_kind"].items()):
        faults.add_row(kind, str(count))
    console.print(faults)
    silent = Table("hurt meanwhile", "pauses", "p50", "longest", title=f"Silences over {PAUSE_SECONDS_MIN} s")
    for cause, row in sorted(figures["pauses_s"].items()):
        silent.add_row(cause, str(row["count"]), f"{row['p50']} s", f"{row['max']} s")
    console.print(silent)
    console.print(
        f"turns {figures['turns']} {figures['outcomes']}; lost connections {figures['connections_lost']}, "
        f"hung up {figures['clients_hung_up']}, resumed {figures['resumed']}, joined {figures['joined']}, "
        f"statuses {figures['status']}"
    )
    checks = Table("check", "violations")
    for name in CHECKS:
        checks.add_row(name, str(figures["violations"].get(name, 0)))
    console.print(checks)
    for violation in violations[:SHOWN_VIOLATIONS_MAX]:
        console.print(f"VIOLATION {violation.check}: turn {violation.turn}: {violation.evidence}", style="red")


def _outcome(one: Operation) -> str:
    return str(one.data["outcome"])


def _pauses_by_cause(found: Sequence[Pause]) -> dict[str, dict[str, float]]:
    by_cause: dict[str, list[float]] = defaultdict(list)
    for pause in found:
        by_cause[pause.cause or "several, or none"].append(pause.seconds)
    return {
        cause: {"count": len(each), "p50": round(median(each), 2), "max": round(max(each), 2)}
        for cause, each in by_cause.items()
    }


def _cause(from_s: float, to_s: float, injected: Sequence[Injected]) -> str | None:
    """The one fault that began in this time, or was not over at its beginning."""
    during = [one for one in injected if one.at_s <= to_s and (one.over_s or one.at_s) >= from_s]
    if len(during) != 1:
        return None
    return f"{family(during[0].fault.target)}: {during[0].fault.kind.value}"
