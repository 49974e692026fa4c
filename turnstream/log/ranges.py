"""Which waiting ranges of one partition are read together. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """The offsets ``start <= offset < stop``."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """One pass over a partition that serves the spans at ``members`` (indexes into what was planned)."""

    span: Span
    members: tuple[int, ...]


def plan_sweep(spans: Sequence[Span], gap_records_max: int) -> Sweep:
    """The first sweep for ``spans`` (at least one): from the lowest start, as far as they lie close together.

    Spans further than ``gap_records_max`` behind the others wait for a later sweep, so that a caller near the end
    of the log does not pay for one near its beginning.
    """
    order = sorted(range(len(spans)), key=lambda index: spans[index].start)
    members = [order[0]]
    stop = spans[order[0]].stop
    for index in order[1:]:
        if spans[index].start > stop + gap_records_max:
            break
        members.append(index)
        stop = max(stop, spans[index].stop)
    return Sweep(Span(spans[order[0]].start, stop), tuple(members))
