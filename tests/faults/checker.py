"""Whether the promises held: all checks over one operation log and one dump. Pure."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from tests.faults import client_checks, log_checks
from tests.faults.dump import Dump
from tests.faults.evidence import Evidence, Violation, gather
from tests.faults.operations import Operation

CHECKS: Final[Sequence[Callable[[Evidence], Iterable[Violation]]]] = (
    log_checks.lost_turns,
    log_checks.unlike_folds,
    log_checks.wrong_texts,
    log_checks.bills,
    log_checks.double_answers,
    log_checks.order,
    log_checks.missing_rows,
    client_checks.streams,
    client_checks.outcomes,
    client_checks.frames,
    client_checks.keys,
    client_checks.conflicts,
    client_checks.histories,
    client_checks.healing,
)


def check(operations: Sequence[Operation], dump: Dump) -> list[Violation]:
    """Every broken promise of a run; none is what we want."""
    evidence = gather(operations, dump)
    return [violation for one in CHECKS for violation in one(evidence)]
