"""What is asked of a broker when, and what is given out, with answers that the test writes itself."""

import asyncio
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from aiokafka.errors import (
    CorruptRecordException,
    NotLeaderForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from schemas.ports import TopicPartition
from tests.unit.log.wire_double import ClusterDouble, WireDouble
from turnstream.log.wire import follower as follower_module
from turnstream.log.wire.fetch import FetchLimits
from turnstream.log.wire.follower import Follower
from turnstream.log.wire.layout import Answer, by_topic

FIRST, SECOND = TopicPartition("a", 0), TopicPartition("a", 1)
LIMITS = FetchLimits(500, 1, 1_000_000, 100_000)


def batch(first_offset: int, values: Sequence[bytes]) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1_000_000)
    for nth, value in enumerate(values):
        builder.append(nth, 1, b"k", value, [])
    return struct.pack(">q", first_offset) + bytes(builder.build())[8:]


def answer(found: Mapping[TopicPartition, bytes | int], end: int = 9) -> bytes:
    """Of each partition its batches, or an error code."""
    entries = []
    for partition, one in found.items():
        code, data = (one, b"") if isinstance(one, int) else (0, one)
        entries.append(
            (partition, struct.pack(">ihqqqii", partition.partition, code, end, end, 0, -1, len(data)) + data)
        )
    return struct.pack(">ihi", 0, 0, 0) + by_topic(entries)


def asked(body: bytes) -> dict[int, int]:
    """The partitions of a request and their offsets."""
    fields = struct.Struct(">iiqqi")
    request = Answer(body, struct.calcsize(">iiiibii"))
    return dict(request.partitions(lambda part, _topic: _partition(*part.take(fields))))


def _partition(number: int, _epoch: int, offset: int, _start: int, _most: int) -> tuple[int, int]:
    return number, offset


def values(found: Mapping[TopicPartition, Iterable[Any]]) -> dict[TopicPartition, list[bytes]]:
    return {partition: [entry.value for entry in entries] for partition, entries in found.items()}


class World:
    """A follower of two partitions from offsets 5 and 7."""

    def __init__(self) -> None:
        self.cluster = ClusterDouble()
        cluster: Any = self.cluster
        self.earliest: Mapping[TopicPartition, int] | None = {FIRST: 6}
        self.follower = Follower(cluster, lambda: LIMITS, self._earliest)
        self.follower.follow({FIRST: 5, SECOND: 7})

    @property
    def wire(self) -> WireDouble:
        assert self.cluster.wire is not None
        return self.cluster.wire

    async def _earliest(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        if self.earliest is None:
            raise NotLeaderForPartitionError
        return {partition: self.earliest[partition] for partition in partitions}

    async def look(self, records_max: int = 10) -> dict[TopicPartition, list[bytes]]:
        """What there is now."""
        return values(await self.follower.next_entries(records_max, 0))


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(follower_module, "_BACKOFF_S", 0)
    return World()


async def test_a_poll_is_asked_once_and_woken_by_its_answer(world: World) -> None:
    polling = asyncio.create_task(world.follower.next_entries(10, 5))
    await asyncio.sleep(0)
    assert [asked(body) for body, _ in world.wire.sent] == [{0: 5, 1: 7}]
    world.wire.answer(answer({FIRST: batch(5, [b"5", b"6"]), SECOND: b""}))
    assert values(await polling) == {FIRST: [b"5", b"6"]}
    assert [world.follower.position(partition) for partition in (FIRST, SECOND)] == [7, 7]
    assert world.follower.high_watermark(FIRST) == 9


async def test_nothing_more_is_asked_for_while_something_is_left_to_give(world: World) -> None:
    await world.look()
    world.wire.answer(answer({FIRST: batch(5, [b"5", b"6", b"7"])}))
    assert await world.look(2) == {FIRST: [b"5", b"6"]}
    assert world.wire.sent == []
    assert world.follower.position(FIRST) == 7
    assert await world.look(2) == {FIRST: [b"7"]}
    assert await world.look() == {}
    assert [asked(body) for body, _ in world.wire.sent] == [{0: 8, 1: 7}]


async def test_partitions_take_turns(world: World) -> None:
    await world.look()
    world.wire.answer(answer({FIRST: batch(5, [b"a", b"b"]), SECOND: batch(7, [b"c", b"d"])}))
    seen = [await world.look(1) for _ in range(4)]
    assert seen == [{FIRST: [b"a"]}, {SECOND: [b"c"]}, {FIRST: [b"b"]}, {SECOND: [b"d"]}]


async def test_records_before_the_position_are_not_given(world: World) -> None:
    await world.look()
    world.wire.answer(answer({FIRST: batch(3, [b"3", b"4", b"5", b"6"])}))
    assert await world.look() == {FIRST: [b"5", b"6"]}


async def test_what_is_paused_stays_until_it_is_resumed(world: World) -> None:
    await world.look()
    world.wire.answer(answer({FIRST: batch(5, [b"5"])}))
    world.follower.pause([FIRST])
    assert await world.look() == {}
    assert [asked(body) for body, _ in world.wire.sent] == [{1: 7}]
    world.follower.resume([FIRST])
    assert await world.look() == {FIRST: [b"5"]}


async def test_an_answer_for_what_is_no_longer_followed_is_dropped(world: World) -> None:
    await world.look()
    late, world.wire.sent = world.wire.sent, []
    world.follower.unfollow([FIRST])
    world.follower.follow({FIRST: 20})
    late[0][1](answer({FIRST: batch(5, [b"5"])}))
    assert await world.look() == {}
    assert world.follower.position(FIRST) == 20


async def test_a_new_partition_does_not_wait_for_the_end_of_a_poll(world: World) -> None:
    await world.look()
    third = TopicPartition("a", 2)
    world.follower.follow({third: 1})
    assert world.wire.closed
    await world.look()
    assert [asked(body) for body, _ in world.wire.sent] == [{0: 5, 1: 7, 2: 1}]


async def test_where_retention_overtook_a_position_it_goes_on_with_the_oldest_that_is_left(world: World) -> None:
    await world.look()
    world.wire.answer(answer({FIRST: OffsetOutOfRangeError.errno}))
    polling = asyncio.create_task(world.follower.next_entries(10, 5))
    await asyncio.sleep(0)
    assert [asked(body) for body, _ in world.wire.sent] == [{0: 6, 1: 7}]
    world.wire.answer(answer({FIRST: batch(6, [b"6"])}))
    assert values(await polling) == {FIRST: [b"6"]}


async def test_what_came_is_not_lost_when_the_oldest_cannot_be_found(world: World) -> None:
    await world.look()
    world.earliest = None
    world.wire.answer(answer({FIRST: OffsetOutOfRangeError.errno, SECOND: batch(7, [b"7"])}))
    assert await world.look() == {SECOND: [b"7"]}
    with pytest.raises(NotLeaderForPartitionError):
        await world.look()
    world.earliest = {FIRST: 6}
    assert await world.look() == {}
    assert [asked(body) for body, _ in world.wire.sent] == [{0: 6, 1: 8}]


async def test_a_leader_that_moved_is_looked_for(world: World) -> None:
    polling = asyncio.create_task(world.follower.next_entries(10, 5))
    await asyncio.sleep(0)
    world.wire.answer(answer({FIRST: NotLeaderForPartitionError.errno}))
    assert world.cluster.refreshed
    async with asyncio.timeout(5):
        while not world.wire.sent:  # noqa: ASYNC110 - the follower has no event for it
            await asyncio.sleep(0)
    world.wire.answer(answer({FIRST: batch(5, [b"5"])}))
    assert values(await polling) == {FIRST: [b"5"]}


async def test_a_refusal_is_raised_once(world: World) -> None:
    await world.look()
    world.wire.answer(answer({FIRST: TopicAuthorizationFailedError.errno}))
    with pytest.raises(TopicAuthorizationFailedError):
        await world.look()
    assert await world.look() == {}


async def test_a_broken_batch_is_no_record(world: World) -> None:
    await world.look()
    data = bytearray(batch(5, [b"some value"]))
    data[-5] ^= 0xFF
    world.wire.answer(answer({FIRST: bytes(data)}))
    with pytest.raises(CorruptRecordException):
        await world.look()
    assert world.follower.position(FIRST) == 5


async def test_a_broker_that_cannot_be_reached_is_tried_again(world: World) -> None:
    wire, world.cluster.wire = world.wire, None
    polling = asyncio.create_task(world.follower.next_entries(10, 5))
    await asyncio.sleep(0)
    world.cluster.wire = wire
    async with asyncio.timeout(5):
        while not wire.sent:  # noqa: ASYNC110 - the follower has no event for it
            await asyncio.sleep(0.001)
    wire.answer(answer({FIRST: batch(5, [b"5"])}))
    assert values(await polling) == {FIRST: [b"5"]}
