"""Records of all streams are worked together, acknowledged afterwards, and never more than fit."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from stream_processors.windows.faust_batches import Batches


@dataclass
class Consumer:
    unacked: set[str] = field(default_factory=set)


@dataclass
class App:
    consumer_generation_id: int = 1
    consumer: Consumer = field(default_factory=Consumer)


@dataclass(frozen=True)
class Message:
    name: str
    generation_id: int = 1


@dataclass
class Record:
    message: Any
    acknowledged: asyncio.Event = field(default_factory=asyncio.Event)

    def ack(self) -> None:
        self.acknowledged.set()


@dataclass
class Stream:
    records: Sequence[Record]

    def noack(self) -> "Stream":
        return self

    async def events(self) -> AsyncIterator[Record]:
        for record in self.records:
            yield record


def records(*names: str, generation: int = 1) -> list[Record]:
    return [Record(Message(name, generation)) for name in names]


@dataclass
class Worked:
    """What was worked, batch by batch; waits for ``go`` in each."""

    batches: list[list[str]] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    began: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def __call__(self, batch: Sequence[Any]) -> None:
        self.batches.append([record.message.name for record in batch])
        self.began.release()
        await self.go.wait()


@asynccontextmanager
async def working(batches: Batches) -> AsyncIterator[None]:
    task = asyncio.create_task(batches.run())
    yield
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def acked(taken: Sequence[Record]) -> None:
    for record in taken:
        await record.acknowledged.wait()


async def test_records_of_several_streams_are_one_batch_and_acknowledged_after_the_work() -> None:
    work = Worked()
    batches = Batches(App(), work, records_max=3, seconds_max=60)
    bills, verdicts = records("a", "b"), records("c")
    async with working(batches):
        await batches.collect(Stream(bills))
        waiting = asyncio.create_task(batches.collect(Stream(verdicts)))
        await work.began.acquire()
        assert work.batches == [["a", "b", "c"]]
        assert not any(record.acknowledged.is_set() for record in [*bills, *verdicts])
        work.go.set()
        await acked([*bills, *verdicts])
        await waiting


async def test_no_more_are_taken_than_fit_until_the_batch_is_worked_on() -> None:
    work = Worked()
    batches = Batches(App(), work, records_max=2, seconds_max=60)
    taken = records(*"abcd")
    work.go.set()
    async with working(batches):
        await batches.collect(Stream(taken))
        await acked(taken)
    assert work.batches == [["a", "b"], ["c", "d"]]


async def test_few_records_do_not_wait_for_ever() -> None:
    work = Worked()
    batches = Batches(App(), work, records_max=100, seconds_max=0)
    work.go.set()
    taken = records("a")
    async with working(batches):
        await batches.collect(Stream(taken))
        await acked(taken)
    assert work.batches == [["a"]]


async def test_what_was_taken_before_the_group_met_anew_is_left_to_its_new_owner() -> None:
    app, work = App(consumer_generation_id=2), Worked()
    batches = Batches(app, work, records_max=2, seconds_max=60)
    old, new = records("old"), records("new", generation=2)
    app.consumer.unacked.add(old[0].message)
    work.go.set()
    async with working(batches):
        await batches.collect(Stream([*old, *new]))
        await acked(new)
    assert work.batches == [["new"]]
    assert not old[0].acknowledged.is_set()
    assert not app.consumer.unacked


async def test_a_failure_ends_the_work_and_acknowledges_nothing() -> None:
    async def fail(batch: Sequence[Any]) -> None:
        raise OSError(len(batch))

    batches, taken = Batches(App(), fail, records_max=1, seconds_max=60), records("a")
    collecting = asyncio.create_task(batches.collect(Stream(taken)))
    with pytest.raises(OSError, match="1"):
        await batches.run()
    await collecting
    assert not taken[0].acknowledged.is_set()
