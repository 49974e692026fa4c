"""What every ``Producer`` keeps, and that readers see it."""

import asyncio
from collections.abc import Sequence

import pytest

from schemas.errors import Malformed, RecordTooLarge
from schemas.ports import Outgoing
from schemas.topics import MAX_RECORD_BYTES
from tests.support.log_backends import PARTITIONS, LogBackend, numbered
from turnstream.log.partitioning import partition_of_key


async def test_offsets_come_back_in_the_order_of_the_records(backend: LogBackend) -> None:
    async with backend.producer() as producer, backend.reader() as reader:
        records = [record for number in range(PARTITIONS) for record in numbered(backend, 3, number)]
        assert list(await producer.append(records)) == [0, 1, 2] * PARTITIONS
        assert list(await producer.append(numbered(backend, 2, 1))) == [3, 4]
        found = await reader.read_range(backend.partition(1), 0, 5)
        assert [record.value for record in found] == [b"0", b"1", b"2", b"0", b"1"]


async def test_a_record_arrives_whole(backend: LogBackend) -> None:
    headers = (("turn", b"t"), ("schema", b"s"), ("turn", b"again"))
    async with backend.producer() as producer, backend.reader() as reader:
        await producer.append([Outgoing(backend.topic, b"key", b"value", headers, 2)])
        (record,) = await reader.read_range(backend.partition(2), 0, 1)
    assert (record.topic, record.partition, record.offset) == (backend.topic, 2, 0)
    assert (record.key, record.value, record.headers) == (b"key", b"value", headers)
    assert record.timestamp_ms > 1_600_000_000_000


async def test_a_record_keeps_the_time_that_it_brings(backend: LogBackend) -> None:
    async with backend.producer() as producer, backend.reader() as reader:
        await producer.append([Outgoing(backend.topic, b"key", b"value", (), 2, 1_700_000_000_123)])
        (record,) = await reader.read_range(backend.partition(2), 0, 1)
    assert record.timestamp_ms == 1_700_000_000_123


async def test_the_key_decides_as_in_the_java_client(backend: LogBackend) -> None:
    keys = [b"conversation-%d" % number for number in range(20)]
    async with backend.producer() as producer, backend.reader() as reader:
        await producer.append([Outgoing(backend.topic, key, key) for key in keys])
        ends = await reader.end_offsets([backend.partition(number) for number in range(PARTITIONS)])
        for partition, end in ends.items():
            found = await reader.read_range(partition, 0, end)
            assert [r.key for r in found] == [k for k in keys if partition_of_key(k, PARTITIONS) == partition.partition]


async def test_concurrent_appends_each_get_their_own_offsets(backend: LogBackend) -> None:
    got: dict[bytes, int] = {}

    async def append(number: int) -> None:
        (got[b"%d" % number],) = await producer.append([Outgoing(backend.topic, b"k", b"%d" % number, (), 0)])

    async with backend.producer() as producer, backend.reader() as reader:
        async with asyncio.TaskGroup() as tasks:
            for number in range(200):
                tasks.create_task(append(number))
        found = await reader.read_range(backend.partition(0), 0, 200)
    assert {record.value: record.offset for record in found} == got


async def test_a_record_that_is_too_large_is_refused_before_anything_is_sent(backend: LogBackend) -> None:
    large = Outgoing(backend.topic, b"k", b"x" * MAX_RECORD_BYTES, (), 0)
    async with backend.producer() as producer, backend.reader() as reader:
        with pytest.raises(RecordTooLarge, match="exceeds"):
            await producer.append([*numbered(backend, 2, 0), large])
        assert await reader.end_offsets([backend.partition(0)]) == {backend.partition(0): 0}
        # The refusal leaves the producer as it was (an aiokafka producer would be broken for ever).
        assert list(await producer.append(numbered(backend, 2, 0))) == [0, 1]


async def test_the_largest_record_that_is_allowed_is_taken(backend: LogBackend) -> None:
    record = Outgoing(backend.topic, b"k", b"x" * (MAX_RECORD_BYTES - 200), (("n", b"1"),), 0)
    async with backend.producer() as producer, backend.reader() as reader:
        assert list(await producer.append([record, *numbered(backend, 1, 0)])) == [0, 1]
        found = await reader.read_range(backend.partition(0), 0, 2)
    assert [len(one.value) for one in found] == [MAX_RECORD_BYTES - 200, 1]


async def test_a_partition_that_does_not_exist_is_refused(backend: LogBackend) -> None:
    async with backend.producer() as producer, backend.reader() as reader:
        with pytest.raises(Malformed, match="no partition 60000"):
            await producer.append([*numbered(backend, 1, 0), Outgoing(backend.topic, b"k", b"v", (), 60_000)])
        assert await reader.end_offsets([backend.partition(0)]) == {backend.partition(0): 0}


async def test_what_is_posted_lands_in_its_order_and_tells_where(backend: LogBackend) -> None:
    async with backend.producer() as producer, backend.reader() as reader:
        told: asyncio.Queue[Sequence[int] | None] = asyncio.Queue()
        # The first post of a producer finds it without any knowledge of the topic; the second one does not.
        producer.post(numbered(backend, 2, 0), told.put_nowait)
        assert list(await told.get() or ()) == [0, 1]
        producer.post(numbered(backend, 1, 0), told.put_nowait)
        producer.post(numbered(backend, 2, 0), told.put_nowait)
        assert [list(await told.get() or ()) for _ in range(2)] == [[2], [3, 4]]
        assert await reader.end_offsets([backend.partition(0)]) == {backend.partition(0): 5}


async def test_a_post_to_several_partitions_tells_once_and_of_all(backend: LogBackend) -> None:
    async with backend.producer() as producer:
        told: asyncio.Queue[Sequence[int] | None] = asyncio.Queue()
        await producer.append(numbered(backend, 3, 1))
        producer.post([*numbered(backend, 1, 0), *numbered(backend, 2, 1)], told.put_nowait)
        assert list(await told.get() or ()) == [0, 3, 4]
        assert told.empty()


async def test_a_post_that_is_too_large_is_refused_before_anything_is_sent(backend: LogBackend) -> None:
    large = Outgoing(backend.topic, b"k", b"x" * MAX_RECORD_BYTES, (), 0)
    told: list[Sequence[int] | None] = []
    async with backend.producer() as producer, backend.reader() as reader:
        with pytest.raises(RecordTooLarge, match="exceeds"):
            producer.post([*numbered(backend, 2, 0), large], told.append)
        assert await reader.end_offsets([backend.partition(0)]) == {backend.partition(0): 0}
    assert told == []


async def test_nothing_is_something_that_can_be_appended(backend: LogBackend) -> None:
    async with backend.producer() as producer:
        assert list(await producer.append([])) == []
