"""What a run did and what its clients felt: figures for people and for a file. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

from tests.faults.dump import Dump
from tests.faults.evidence import Violation, tokens_of
from tests.faults.fold import fold_turns
from tests.faults.operations import Action, Event, Operation
from tests.faults.schedule import SERVERS

# A shorter silence is the model's own pace.
PAUSE_SECONDS_MIN: Final = 0.25
# A connection that breaks so soon after a fault of its edge breaks because of it.
EDGE_CAUSE_SECONDS_MAX: Final = 10.0
_SIGNS: Final = frozenset({Event.PIECE, Event.WHOLE, Event.FINISH, Event.DONE})


@dataclass(frozen=True, slots=True)
class Pauses:
    """Silences in seconds that clients had while a fault of one kind was under way."""

    fault: str
    count: int
    p50_s: float
    max_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one run; ``faults`` by kind and target, ``turns`` by how they ended on the log."""

    turns: Mapping[str, int]
    faults: Mapping[str, int]
    process_faults: int
    server_faults: int
    clients: Mapping[str, int]
    pauses: tuple[Pauses, ...]
    seconds: float
    violations: tuple[Violation, ...]

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


def summarize(operations: Sequence[Operation], dump: Dump, violations: Sequence[Violation]) -> Report:
    """The figures of a run."""
    faults = [one for one in operations if one.event is Event.FAULT]
    turns = Counter(turn.ended or "never" for turn in fold_turns(tokens_of(dump)).values())
    on_servers = sum(one.target in SERVERS for one in faults)
    return Report(
        turns=dict(turns),
        faults=dict(Counter(f"{one.fault} {_kind_of(one.target or '')}" for one in faults)),
        process_faults=len(faults) - on_servers,
        server_faults=on_servers,
        clients=_client_counts(operations),
        pauses=tuple(_pauses(operations)),
        seconds=round(operations[-1].mono_s - operations[0].mono_s, 1) if operations else 0.0,
        violations=tuple(violations),
    )


def _kind_of(target: str) -> str:
    return target.partition("-")[0]


def _client_counts(operations: Sequence[Operation]) -> dict[str, int]:
    posts = Counter(one.reader for one in operations if one.event is Event.REQUEST and one.action is Action.POST)
    statuses = Counter(one.status for one in operations if one.event is Event.HEAD and (one.status or 0) >= 300)
    events = Counter(one.event for one in operations)
    return {
        "readers": events[Event.INVOKE],
        "answered": events[Event.OK],
        "told of a failure": events[Event.FAIL],
        "gave up": events[Event.UNKNOWN],
        "retries": sum(count - 1 for count in posts.values()),
        "resumes": sum(one.action is Action.RESUME for one in operations if one.event is Event.REQUEST),
        "joins": sum(count - 1 for count in _readers_by_turn(operations).values()),
        "cuts": events[Event.CUT],
        "lost connections": events[Event.LOST],
        **{f"status {status}": count for status, count in sorted(statuses.items(), key=lambda item: item[0] or 0)},
    }


def _readers_by_turn(operations: Sequence[Operation]) -> Counter[str]:
    pairs = {
        (one.turn_id, one.reader)
        for one in operations
        if one.event is Event.HEAD and one.turn_id and (one.status or 0) < 300
    }
    return Counter(turn_id for turn_id, _ in pairs if turn_id is not None)


# --- pauses ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Silence:
    """Monotonic seconds; ``lost_s`` and ``edge`` are of a connection that broke meanwhile."""

    began_s: float
    ended_s: float
    lost_s: float | None
    edge: str | None

    @property
    def from_s(self) -> float:
        """Where the waiting begins: whose connection breaks knows at once."""
        return self.began_s if self.lost_s is None else self.lost_s


def _pauses(operations: Sequence[Operation]) -> Iterator[Pauses]:
    faults = [one for one in operations if one.event is Event.FAULT]
    found: dict[str, list[float]] = defaultdict(list)
    for silence in _silences(operations):
        cause = _cause(silence, faults)
        if cause is not None:
            found[f"{cause.fault} {_kind_of(cause.target or '')}"].append(silence.ended_s - silence.from_s)
    for name in sorted(found):
        yield Pauses(name, len(found[name]), round(median(found[name]), 2), round(max(found[name]), 2))


def _cause(silence: _Silence, faults: Sequence[Operation]) -> Operation | None:
    """The fault nearest to where the text came to a halt; a broken connection is a fault of its edge."""
    if silence.lost_s is not None:
        reach_s = silence.lost_s - EDGE_CAUSE_SECONDS_MAX
        near = [one for one in faults if one.target == silence.edge and reach_s <= one.mono_s <= silence.lost_s]
        return max(near, key=lambda one: one.mono_s, default=None)
    within = [
        one
        for one in faults
        if silence.began_s - PAUSE_SECONDS_MIN <= one.mono_s <= silence.ended_s and _kind_of(one.target or "") != "edge"
    ]
    return min(within, key=lambda one: abs(silence.began_s - one.mono_s), default=None)


def _silences(operations: Sequence[Operation]) -> Iterator[_Silence]:
    """Per reader, what lies between two signs of its answer: long, or with a broken connection in it."""
    edges = {one.request: one.edge for one in operations if one.event is Event.REQUEST}
    last: dict[str, Operation] = {}
    lost: dict[str, Operation] = {}
    for one in operations:
        if one.reader is None:
            continue
        if one.event is Event.LOST:
            lost.setdefault(one.reader, one)
        elif one.event in _SIGNS:
            before, broken = last.get(one.reader), lost.pop(one.reader, None)
            last[one.reader] = one
            if before is None or (broken is None and one.mono_s - before.mono_s < PAUSE_SECONDS_MIN):
                continue
            edge = edges.get(broken.request) if broken else None
            yield _Silence(before.mono_s, one.mono_s, broken.mono_s if broken else None, edge)
