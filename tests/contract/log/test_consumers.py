"""What every ``GroupConsumer`` keeps."""

import asyncio
from collections.abc import Callable

import pytest

from schemas.errors import Retryable
from schemas.ports import GroupConsumer, Record, TopicPartition
from tests.support.log_backends import PARTITIONS, LogBackend, numbered


async def poll_until(consumer: GroupConsumer, wait_s: float, enough: Callable[[list[Record]], bool]) -> list[Record]:
    seen: list[Record] = []
    async with asyncio.timeout(wait_s):
        while not enough(seen):
            seen += await consumer.poll(100, 0.1)
    return seen


async def settle(backend: LogBackend, *members: GroupConsumer) -> None:
    """Poll until the group has shared out all partitions among ``members``, none without any."""
    async with asyncio.timeout(backend.wait_s):
        while True:
            held = [member.assignment() for member in members]
            if sum(map(len, held)) == PARTITIONS == len(frozenset[TopicPartition]().union(*held)) and all(held):
                return
            for member in members:
                assert await member.poll(1, 0.05) == [] or True


async def test_a_new_group_begins_at_the_earliest_record_in_order(backend: LogBackend) -> None:
    async with backend.producer() as producer:
        for number in range(PARTITIONS):
            await producer.append(numbered(backend, 25, number))
        async with backend.consumer("g") as consumer:
            seen = await poll_until(consumer, backend.wait_s, lambda seen: len(seen) >= 100)
            assert len(consumer.assignment()) == PARTITIONS
    for number in range(PARTITIONS):
        assert [record.offset for record in seen if record.partition == number] == list(range(25))


async def test_a_poll_is_bounded_in_records_and_in_time(backend: LogBackend) -> None:
    async with backend.producer() as producer, backend.consumer("g") as consumer:
        assert await consumer.poll(10, 0) == []
        await producer.append(numbered(backend, 30, 0))
        seen: list[Record] = []
        while len(seen) < 30:
            batch = await consumer.poll(7, backend.wait_s)
            assert 1 <= len(batch) <= 7
            seen += batch
        assert await consumer.poll(7, 0.01) == []


async def test_a_restart_goes_on_from_the_commit(backend: LogBackend) -> None:
    async with backend.producer() as producer:
        await producer.append(numbered(backend, 10, 1))
        async with backend.consumer("g") as consumer:
            await poll_until(consumer, backend.wait_s, lambda seen: len(seen) >= 10)
            await consumer.commit({backend.partition(1): 4})
        async with backend.consumer("g") as consumer:
            seen = await poll_until(consumer, backend.wait_s, lambda seen: len(seen) >= 6)
            assert [record.offset for record in seen] == list(range(4, 10))
        async with backend.consumer("other") as consumer:
            assert len(await poll_until(consumer, backend.wait_s, lambda seen: len(seen) >= 10)) == 10


async def test_a_paused_partition_delivers_nothing_until_resumed(backend: LogBackend) -> None:
    paused = backend.partition(0)
    async with backend.producer() as producer, backend.consumer("g") as consumer:
        consumer.pause([paused])
        await producer.append([*numbered(backend, 5, 0), *numbered(backend, 5, 1)])
        seen = await poll_until(consumer, backend.wait_s, lambda seen: len(seen) >= 5)
        seen += await consumer.poll(100, 0.3)
        assert {record.partition for record in seen} == {1}
        consumer.resume([paused])
        seen = await poll_until(consumer, backend.wait_s, lambda seen: len(seen) >= 5)
        assert [record.offset for record in seen] == list(range(5))


async def test_two_members_share_the_partitions_and_what_is_lost_is_told(backend: LogBackend) -> None:
    lost: set[TopicPartition] = set()
    async with backend.consumer("g") as first:
        first.on_revoked(lost.update)
        before = first.assignment()
        async with backend.consumer("g") as second:
            await settle(backend, first, second)
            assert len(first.assignment()) == len(second.assignment()) == PARTITIONS // 2
            assert lost == second.assignment() == before - first.assignment()


async def test_a_kept_partition_goes_on_where_poll_left_off_and_stays_paused(backend: LogBackend) -> None:
    async with backend.producer() as producer, backend.consumer("g") as first:
        for number in range(PARTITIONS):
            await producer.append(numbered(backend, 3, number))
        await poll_until(first, backend.wait_s, lambda seen: len(seen) >= 3 * PARTITIONS)
        async with backend.consumer("g") as second:
            await settle(backend, first, second)
            kept = sorted(first.assignment())
            first.pause([kept[0]])
            for partition in kept:
                await producer.append(numbered(backend, 1, partition.partition))
            # Nothing was committed, and yet nothing is delivered twice.
            seen = await poll_until(first, backend.wait_s, bool)
            assert [(record.source, record.offset) for record in seen] == [(kept[1], 3)]
        await settle(backend, first)
        assert kept[0] not in {record.source for record in await first.poll(100, 0.2)}


async def test_a_leaver_hands_over_at_the_commit(backend: LogBackend) -> None:
    async with backend.producer() as producer, backend.consumer("g") as first:
        async with backend.consumer("g") as second:
            await settle(backend, first, second)
            (moving, *_) = second.assignment()
            await producer.append(numbered(backend, 10, moving.partition))
            await poll_until(second, backend.wait_s, lambda seen: len(seen) >= 10)
            await second.commit({moving: 6})
        seen = await poll_until(first, backend.wait_s, lambda seen: len(seen) >= 4)
        assert [(record.source, record.offset) for record in seen] == [(moving, offset) for offset in range(6, 10)]


async def test_a_commit_of_a_lost_partition_is_retryable(backend: LogBackend) -> None:
    async with backend.consumer("g") as first, backend.consumer("g") as second:
        await settle(backend, first, second)
        (lost, *_) = second.assignment()
        with pytest.raises(Retryable):
            await first.commit({lost: 1})
