"""Which faults are done, to whom and when: drawn from a seed alone. Pure.

"When" is a number of turns begun, not a time: the same seed means the same faults on any machine.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

REPLICAS: Final = 2
SERVERS: Final = ("kafka", "cassandra", "redis", "triton")
EDGES: Final = ("edge", "edge-2")


class Kind(StrEnum):
    """What is done to a process."""

    KILL = "kill -9"
    PAUSE = "pause"
    ZOMBIE = "zombie"
    """Stopped for longer than its group waits for it, and continued."""
    TERM = "terminate"
    FLUSH = "flush"


@dataclass(frozen=True, slots=True)
class Fault:
    """Done when ``at_turn`` turns have begun; ``seconds`` is how long a pause lasts, 0 for what is no pause."""

    at_turn: int
    kind: Kind
    target: str
    seconds: float = 0.0

    @property
    def hits_server(self) -> bool:
        """Whether it is done to a server that is not ours."""
        return self.target in SERVERS

    @property
    def stage(self) -> str:
        """The process kind that is hit, without the number of the replica."""
        return self.target.partition("-")[0]


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """How many faults, and of what. Shares add up to 1; they are kept to the nearest whole fault."""

    process_faults_per_turn: float = 0.22
    server_faults_per_turn: float = 0.02
    turns_before_first: int = 4
    # A server that dies takes everybody's connections with it: what is learned then needs turns between.
    turns_between_server_faults_min: int = 8
    turns_between_edge_faults_min: int = 3
    pause_seconds_min: float = 0.3
    pause_seconds_max: float = 2.0
    # The group sessions of the stack under test last 6 s.
    zombie_seconds_min: float = 7.0
    zombie_seconds_max: float = 9.0


KIND_SHARES: Final[Mapping[Kind, float]] = {Kind.KILL: 0.45, Kind.PAUSE: 0.34, Kind.TERM: 0.18, Kind.ZOMBIE: 0.03}
STAGE_SHARES: Final[Mapping[str, float]] = {
    "edge": 0.25,
    "processors": 0.23,
    "inference": 0.29,
    "sink": 0.20,
    "windows": 0.03,
}
SERVER_SHARES: Final[Mapping[tuple[Kind, str], float]] = {
    (Kind.KILL, "redis"): 0.20,
    (Kind.FLUSH, "redis"): 0.20,
    (Kind.KILL, "triton"): 0.20,
    (Kind.KILL, "kafka"): 0.20,
    (Kind.KILL, "cassandra"): 0.10,
    (Kind.PAUSE, "cassandra"): 0.10,
}

_T = TypeVar("_T")


def plan_faults(seed: int, turns: int, settings: ScheduleSettings | None = None) -> tuple[Fault, ...]:
    """The faults of a run of ``turns`` turns, in the order in which they are done.

    Raises ValueError when so few turns have no room for the faults that the settings want.
    """
    settings = settings or ScheduleSettings()
    rng = random.Random(f"faults-{seed}")
    wanted = _process_faults(rng, math.ceil(turns * settings.process_faults_per_turn), settings)
    places = _server_places(rng, round(turns * settings.server_faults_per_turn), turns, settings)
    servers = _apportion(SERVER_SHARES, len(places))
    rng.shuffle(servers)
    on_servers = [
        Fault(at_turn, kind, target, _pause_seconds(rng, kind, settings))
        for at_turn, (kind, target) in zip(places, servers, strict=True)
    ]
    on_processes = _placed(rng, wanted, turns, settings)
    return tuple(sorted((*on_processes, *on_servers), key=lambda fault: fault.at_turn))


def _process_faults(rng: random.Random, count: int, settings: ScheduleSettings) -> list[Fault]:
    kinds, stages = _apportion(KIND_SHARES, count), _apportion(STAGE_SHARES, count)
    rng.shuffle(kinds)
    rng.shuffle(stages)
    return [
        Fault(0, kind, _replica(rng, stage), _pause_seconds(rng, kind, settings))
        for kind, stage in zip(kinds, stages, strict=True)
    ]


def _replica(rng: random.Random, stage: str) -> str:
    number = rng.randint(1, REPLICAS)
    return stage if number == 1 else f"{stage}-{number}"


def _pause_seconds(rng: random.Random, kind: Kind, settings: ScheduleSettings) -> float:
    if kind is Kind.PAUSE:
        return round(rng.uniform(settings.pause_seconds_min, settings.pause_seconds_max), 2)
    if kind is Kind.ZOMBIE:
        return round(rng.uniform(settings.zombie_seconds_min, settings.zombie_seconds_max), 2)
    return 0.0


def _placed(rng: random.Random, faults: Sequence[Fault], turns: int, settings: ScheduleSettings) -> list[Fault]:
    """The edges' faults get places that keep their distance; the others come when they come."""
    first, last = _room(turns, settings)
    edges = [fault for fault in faults if fault.stage == "edge"]
    others = [fault for fault in faults if fault.stage != "edge"]
    places = _spread(rng, len(edges), first, last, settings.turns_between_edge_faults_min)
    placed = [_at(fault, place) for fault, place in zip(edges, places, strict=True)]
    return placed + [_at(fault, rng.randint(first, last)) for fault in others]


def _at(fault: Fault, at_turn: int) -> Fault:
    return Fault(at_turn, fault.kind, fault.target, fault.seconds)


def _server_places(rng: random.Random, count: int, turns: int, settings: ScheduleSettings) -> list[int]:
    first, last = _room(turns, settings)
    return _spread(rng, count, first, last, settings.turns_between_server_faults_min)


def _room(turns: int, settings: ScheduleSettings) -> tuple[int, int]:
    first, last = settings.turns_before_first, turns - 1
    if last < first:
        raise ValueError(f"{turns} turns leave no room for faults")
    return first, last


def _spread(rng: random.Random, count: int, first: int, last: int, gap: int) -> list[int]:
    """``count`` places from ``first`` to ``last``, growing, at least ``gap`` apart, evenly likely."""
    # Drawn from a range shortened by all the gaps, then moved apart again.
    slack = last - first - gap * (count - 1)
    if count and slack < 0:
        raise ValueError(f"{count} faults that are {gap} turns apart do not fit into {last - first} turns")
    drawn = sorted(rng.randint(0, slack) for _ in range(count))
    return [first + place + gap * index for index, place in enumerate(drawn)]


def _apportion(shares: Mapping[_T, float], count: int) -> list[_T]:
    """``count`` items in the given shares, by largest remainder (Hamilton's method)."""
    exact = {item: share * count for item, share in shares.items()}
    whole = {item: int(part) for item, part in exact.items()}
    missing = count - sum(whole.values())
    for item in sorted(exact, key=lambda one: exact[one] - whole[one], reverse=True)[:missing]:
        whole[item] += 1
    return [item for item, number in whole.items() for _ in range(number)]
