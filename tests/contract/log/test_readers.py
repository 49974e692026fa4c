"""What every ``LogReader`` and ``LogTail`` keeps."""

import asyncio
from collections.abc import Callable

import pytest

from schemas.errors import Retryable
from schemas.ports import LogTail, Record
from tests.support.log_backends import PARTITIONS, LogBackend, numbered


async def test_a_range_is_what_lies_in_it(backend: LogBackend) -> None:
    async with backend.producer() as producer, backend.reader() as reader:
        await producer.append(numbered(backend, 20, 0))
        for start, stop in ((0, 20), (3, 4), (5, 5), (7, 3), (19, 20)):
            found = await reader.read_range(backend.partition(0), start, stop)
            assert [record.offset for record in found] == list(range(start, stop))


async def test_concurrent_ranges_get_each_their_own(backend: LogBackend) -> None:
    async with backend.producer() as producer, backend.reader() as reader:
        for number in range(PARTITIONS):
            await producer.append(numbered(backend, 50, number))
        wanted = [
            (number, start, start + size)
            for number in range(PARTITIONS)
            for start in range(0, 40, 7)
            for size in (1, 9)
        ]
        found = await asyncio.gather(*[reader.read_range(backend.partition(n), low, high) for n, low, high in wanted])
    for (number, low, high), records in zip(wanted, found, strict=True):
        assert [(record.partition, record.offset) for record in records] == [(number, at) for at in range(low, high)]


async def test_what_is_asked_for_by_key_is_the_same_as_in_its_range(backend: LogBackend) -> None:
    partition = backend.partition(0)
    async with backend.producer() as producer, backend.reader() as reader:
        for _ in range(3):
            await producer.append(
                [record._replace(key=key) for record in numbered(backend, 5, 0) for key in (b"a", b"b")]
            )
        for start, stop in ((4, 9), (0, 20), (3, 30), (5, 5), (29, 30), (0, 30)):
            expected = [offset for offset in range(start, stop) if offset % 2]
            assert list(await reader.offsets_of(partition, b"b", start, stop)) == expected
            found = await reader.read_key(partition, b"b", start, stop)
            assert [(record.key, record.offset) for record in found] == [(b"b", offset) for offset in expected]
            assert list(found) == [one for one in await reader.read_range(partition, start, stop) if one.key == b"b"]
        assert not await reader.offsets_of(partition, b"nobody", 0, 30)
        assert not await reader.read_key(partition, b"nobody", 0, 30)
        with pytest.raises(Retryable):
            await reader.offsets_of(partition, b"a", 20, 31)


async def test_readers_of_keys_at_once_get_each_their_own(backend: LogBackend) -> None:
    partition, keys = backend.partition(0), [b"%d" % number for number in range(10)]
    async with backend.producer() as producer, backend.reader() as reader:
        for round_ in range(3):
            await producer.append([record._replace(key=key) for record in numbered(backend, 1, 0) for key in keys])
            stop = 10 * (round_ + 1)
            found = await asyncio.gather(
                *[reader.offsets_of(partition, key, 0, stop - 9 + at) for at, key in enumerate(keys)]
            )
            assert [list(offsets) for offsets in found] == [list(range(at, stop, 10)) for at in range(10)]


async def test_offsets_without_a_record_are_passed(backend: LogBackend) -> None:
    async with backend.producer() as producer, backend.reader() as reader:
        await producer.append(numbered(backend, 2, 0))
        await backend.leave_gap(0)
        await producer.append(numbered(backend, 1, 0))
        partition = backend.partition(0)
        end = (await reader.end_offsets([partition]))[partition]
        found = await reader.read_range(partition, 0, end)
        offsets = [record.offset for record in found]
        assert len(offsets) < end
        assert offsets[:2] == [0, 1]
        assert offsets[-1] == end - 1
        assert await reader.read_range(partition, end - 2, end - 1) == []


async def test_a_range_beyond_the_end_is_retryable_and_harms_no_other(backend: LogBackend) -> None:
    async with backend.producer() as producer, backend.reader() as reader, asyncio.TaskGroup() as tasks:
        await producer.append(numbered(backend, 5, 0))
        beyond = tasks.create_task(_outcome(reader.read_range(backend.partition(0), 3, 1_000)))
        other = tasks.create_task(_outcome(reader.read_range(backend.partition(1), 0, 1)))
        found = await reader.read_range(backend.partition(0), 0, 5)
        assert len(found) == 5
        assert isinstance(await beyond, Retryable)
        assert isinstance(await other, Retryable)


async def test_offsets_are_found_by_time(backend: LogBackend) -> None:
    partition = backend.partition(3)
    async with backend.producer() as producer, backend.reader() as reader:
        await producer.append(numbered(backend, 4, 3))
        (first, *_) = await reader.read_range(partition, 0, 1)
        assert await reader.offsets_at([partition], first.timestamp_ms) == {partition: 0}
        assert await reader.offsets_at([partition], first.timestamp_ms + 3_600_000) == {partition: 4}
        assert await reader.offsets_at([backend.partition(0)], 0) == {backend.partition(0): 0}


async def test_a_tail_begins_at_the_end_and_follows(backend: LogBackend) -> None:
    partitions = [backend.partition(0), backend.partition(2)]
    async with backend.producer() as producer:
        await producer.append([*numbered(backend, 3, 0), *numbered(backend, 1, 2)])
        async with backend.tail(partitions) as tail:
            assert [tail.position(partition) for partition in partitions] == [3, 1]
            await producer.append([*numbered(backend, 2, 0), *numbered(backend, 9, 1), *numbered(backend, 1, 2)])
            seen: list[Record] = []
            while len(seen) < 3:
                seen += await tail.poll(2, backend.wait_s)
            assert sorted((record.partition, record.offset) for record in seen) == [(0, 3), (0, 4), (2, 1)]
            assert [tail.position(partition) for partition in partitions] == [5, 2]
            assert await tail.poll(10, 0) == []


async def test_a_tail_is_woken_by_a_record(backend: LogBackend) -> None:
    async with (
        backend.producer() as producer,
        backend.tail([backend.partition(0)]) as tail,
        asyncio.TaskGroup() as tasks,
    ):
        waiting = tasks.create_task(tail.poll(10, backend.wait_s))
        await producer.append(numbered(backend, 1, 0))
        assert len(await waiting) == 1


async def test_a_position_that_is_not_followed_is_no_number(backend: LogBackend) -> None:
    async with backend.tail([backend.partition(0)]) as tail:
        with pytest.raises(KeyError):
            tail.position(backend.partition(1))


async def _outcome(reading: object) -> object:
    try:
        return await reading  # type: ignore[misc]
    except Retryable as error:
        return error


async def test_a_tail_takes_partitions_in_and_gives_them_up_while_the_others_go_on(backend: LogBackend) -> None:
    home, visited = backend.partition(0), backend.partition(1)
    seen: list[tuple[int, int]] = []

    async def poll(tail: LogTail) -> None:
        while True:
            seen.extend((record.partition, record.offset) for record in await tail.poll(3, 0.05))
            await asyncio.sleep(0)

    async with backend.producer() as producer, backend.tail([home]) as tail, asyncio.TaskGroup() as tasks:
        polling = tasks.create_task(poll(tail))
        await producer.append(numbered(backend, 5, 1))
        for _ in range(3):
            await tail.follow(visited)
            await tail.follow(visited)
            before = tail.position(visited)
            for _ in range(4):
                await producer.append([*numbered(backend, 5, 0), *numbered(backend, 5, 1)])
            await _until(lambda: tail.position(visited) == before + 20)  # noqa: B023 - awaited in this round
            tail.unfollow(visited)
            await producer.append(numbered(backend, 5, 1))
        await _until(lambda: tail.position(home) == 60)
        polling.cancel()
    assert [offset for partition, offset in seen if partition == 0] == list(range(60))
    followed = [offset for partition, offset in seen if partition == 1]
    assert followed == [*range(5, 25), *range(30, 50), *range(55, 75)]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - another task brings it about and tells nobody
            await asyncio.sleep(0.01)
