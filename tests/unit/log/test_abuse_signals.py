"""Signals are heard from the beginning of their topic, then as they come; an unreadable log changes nothing."""

import asyncio
from unittest.mock import AsyncMock

import pytest

from schemas import headers, serde
from schemas.abuse import AbuseLevel, AbuseSignalled
from schemas.errors import Retryable
from schemas.ports import LogReader
from schemas.topics import ABUSE_SIGNALS
from tests.support.memory_log import MemoryLog
from tests.support.turn_events import CountedMetrics
from turnstream.log.abuse_signals import OFFSETS_PER_READ_MAX, AbuseSignalListener, signal_partitions

PARTITIONS = signal_partitions(2)
NOW_MS = 1_795_000_000_000


def signal(user: str, level: AbuseLevel = AbuseLevel.SLOW) -> AbuseSignalled:
    return AbuseSignalled(tenant_id="acme", user_id=user, level=level, until_ms=NOW_MS + 1_000, signalled_at_ms=NOW_MS)


class World:
    """A log with signals, and whoever hears them."""

    def __init__(self) -> None:
        self.log = MemoryLog(topics={ABUSE_SIGNALS.name: 2})
        self.heard: list[AbuseSignalled] = []
        self.metrics = CountedMetrics()

    def signal(self, event: AbuseSignalled, marks: headers.Headers = ()) -> None:
        key = f"{event.tenant_id}|{event.user_id}".encode()
        self.log.put(ABUSE_SIGNALS.name, key, serde.encode(event), headers=marks)

    def listener(self) -> AbuseSignalListener:
        return AbuseSignalListener(self.log.tail(PARTITIONS), PARTITIONS, self.heard.append, self.metrics)

    @property
    def users(self) -> list[str]:
        return sorted(event.user_id for event in self.heard)


async def test_what_lies_there_is_heard_before_anything_new() -> None:
    world = World()
    for number in range(5):
        world.signal(signal(f"u{number}"))
    listener = world.listener()
    world.signal(signal("later"))
    await listener.read_back(world.log.reader(), 5)
    assert world.users == [f"u{number}" for number in range(5)]
    listening = asyncio.create_task(listener.run())
    await world.log.until(lambda: len(world.heard) == 6)
    listening.cancel()
    assert world.heard[-1] == signal("later")


async def test_more_than_one_read_holds_is_read_on() -> None:
    world = World()
    for place in PARTITIONS:
        world.log.leave_gap(place, OFFSETS_PER_READ_MAX + 1)
    world.signal(signal("ann"))
    await world.listener().read_back(world.log.reader(), 5)
    assert world.users == ["ann"]


async def test_shadow_records_and_unreadable_ones_are_passed_over() -> None:
    world = World()
    world.log.put(ABUSE_SIGNALS.name, b"acme|eve", b"{no")
    world.signal(signal("shadow"), headers.make_headers([(headers.REPLAY, "run")]))
    world.signal(signal("ann"))
    await world.listener().read_back(world.log.reader(), 5)
    assert world.users == ["ann"]


async def test_an_unreadable_log_is_counted_and_no_reason_to_stop() -> None:
    world = World()
    world.signal(signal("ann"))
    reader = AsyncMock(spec=LogReader)
    reader.offsets_at.side_effect = Retryable("down")
    await world.listener().read_back(reader, 5)
    assert world.heard == []
    assert world.metrics.counts == {("turnstream_dependency_failures_total", "dependency=abuse_signals"): 1}


@pytest.mark.parametrize("level", list(AbuseLevel))
def test_every_level_survives_the_log(level: AbuseLevel) -> None:
    event = signal("ann", level)
    assert serde.decode(ABUSE_SIGNALS, serde.encode(event)) == event
