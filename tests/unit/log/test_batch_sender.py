"""What goes to a broker when, and what is sent again, with connections that the test answers itself."""

import asyncio
import struct
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError, NotLeaderForPartitionError, OutOfOrderSequenceNumber
from aiokafka.record.memory_records import MemoryRecords

from schemas.ports import Outgoing, TopicPartition
from tests.unit.log.wire_double import ClusterDouble, WireDouble
from turnstream.log import batch_sender
from turnstream.log.batch_sender import BatchSender
from turnstream.log.lanes import Lane
from turnstream.log.settings import KafkaSettings
from turnstream.log.wire.layout import by_topic

FIRST, SECOND = TopicPartition("a", 0), TopicPartition("a", 1)


def results(found: Mapping[TopicPartition, tuple[int, int]]) -> bytes:
    """The body of an answer: each partition's error code and base offset."""
    return by_topic(
        (partition, struct.pack(">ihqqq", partition.partition, code, offset, -1, 0))
        for partition, (code, offset) in found.items()
    )


class Sending:
    """A sender, its lanes, and what it said became of their batches."""

    def __init__(self) -> None:
        self.cluster = ClusterDouble()
        self.outcomes: list[tuple[TopicPartition, int | None, type[Exception] | None]] = []
        cluster: Any = self.cluster
        self.sender = BatchSender(KafkaSettings(), cluster, self._outcome)
        self.lanes = {partition: Lane(partition, None, 1_000) for partition in (FIRST, SECOND)}

    @property
    def wire(self) -> WireDouble:
        assert self.cluster.wire is not None
        return self.cluster.wire

    def add(self, partition: TopicPartition, value: bytes) -> None:
        lane = self.lanes[partition]
        begins = lane.idle
        lane.add(Outgoing(partition.topic, b"k", value), 1, 0.0)
        if begins:
            self.sender.announce(lane)

    def _outcome(self, lane: Lane, base_offset: int | None, error: type[Exception] | None) -> None:
        self.outcomes.append((lane.partition, base_offset, error))
        lane.sending = None
        if lane.waiting:
            self.sender.announce(lane)


@pytest.fixture
async def sending(monkeypatch: pytest.MonkeyPatch) -> Sending:
    monkeypatch.setattr(batch_sender, "_BACKOFF_S", 0)
    monkeypatch.setattr(batch_sender, "RETRY_S", 0)
    sending = Sending()
    await sending.sender.start()
    return sending


def batches_of(body: bytes) -> list[Any]:
    """The record batches of a request to topic ``a`` alone."""
    at = struct.calcsize(">hhi") + 4 + 2 + 1
    (count,) = struct.unpack_from(">i", body, at)
    at += 4
    found = []
    for _ in range(count):
        _number, size = struct.unpack_from(">ii", body, at)
        at += 8
        found.append(MemoryRecords(body[at : at + size]).next_batch())
        at += size
    return found


def values_of(body: bytes) -> list[list[bytes]]:
    return [[record.value for record in batch] for batch in batches_of(body)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the sender has no event for it
            await asyncio.sleep(0)


async def test_appends_of_one_moment_share_a_request(sending: Sending) -> None:
    sending.add(FIRST, b"1")
    sending.add(SECOND, b"2")
    sending.add(FIRST, b"3")
    await until(lambda: bool(sending.wire.sent))
    assert [values_of(body) for body, _ in sending.wire.sent] == [[[b"1", b"3"], [b"2"]]]


async def test_what_comes_meanwhile_goes_with_the_answer(sending: Sending) -> None:
    sending.add(FIRST, b"1")
    await until(lambda: bool(sending.wire.sent))
    for value in (b"2", b"3"):
        sending.add(FIRST, value)
        sending.add(SECOND, value)
        await asyncio.sleep(0)
    assert len(sending.wire.sent) == 1
    sending.wire.answer(results({FIRST: (0, 10)}))
    await until(lambda: bool(sending.wire.sent))
    assert sorted(values_of(sending.wire.sent[0][0])) == [[b"2", b"3"], [b"2", b"3"]]
    assert sending.outcomes == [(FIRST, 10, None)]


async def test_sequences_go_on_from_batch_to_batch(sending: Sending) -> None:
    for value in (b"1", b"2"):
        sending.add(FIRST, value)
    await until(lambda: bool(sending.wire.sent))
    (first,) = batches_of(sending.wire.sent[0][0])
    sending.add(FIRST, b"3")
    sending.wire.answer(results({FIRST: (0, 0)}))
    await until(lambda: bool(sending.wire.sent))
    (second,) = batches_of(sending.wire.sent[0][0])
    assert [(batch.producer_id, batch.base_sequence) for batch in (first, second)] == [(7, 0), (7, 2)]


async def test_a_batch_that_was_not_answered_goes_again_as_it_was(sending: Sending) -> None:
    sending.add(FIRST, b"1")
    await until(lambda: bool(sending.wire.sent))
    before = sending.wire.sent[0][0]
    sending.add(FIRST, b"2")
    sending.wire.lose()
    await until(lambda: bool(sending.wire.sent))
    assert sending.wire.sent[0][0] == before
    assert sending.cluster.refreshed
    assert sending.outcomes == []


async def test_an_error_that_passes_sends_the_batch_again(sending: Sending) -> None:
    sending.add(FIRST, b"1")
    sending.add(SECOND, b"2")
    await until(lambda: bool(sending.wire.sent))
    sending.wire.answer(results({FIRST: (NotLeaderForPartitionError.errno, -1), SECOND: (0, 5)}))
    await until(lambda: bool(sending.wire.sent))
    assert values_of(sending.wire.sent[0][0]) == [[b"1"]]
    assert sending.outcomes == [(SECOND, 5, None)]


@pytest.mark.parametrize("error", [MessageSizeTooLargeError, OutOfOrderSequenceNumber])
async def test_an_error_that_stays_is_told(sending: Sending, error: Any) -> None:
    sending.add(FIRST, b"1")
    await until(lambda: bool(sending.wire.sent))
    sending.wire.answer(results({FIRST: (error.errno, -1)}))
    assert sending.outcomes == [(FIRST, None, error)]


async def test_a_leader_that_is_not_known_is_asked_for_until_it_is(sending: Sending) -> None:
    wire, sending.cluster.wire = sending.wire, None
    sending.add(FIRST, b"1")
    for _ in range(5):
        await asyncio.sleep(0)
    sending.cluster.wire = wire
    await until(lambda: bool(wire.sent))
    assert values_of(wire.sent[0][0]) == [[b"1"]]


async def test_after_its_end_it_sends_and_hears_nothing(sending: Sending) -> None:
    sending.add(FIRST, b"1")
    await until(lambda: bool(sending.wire.sent))
    sending.sender.stop()
    sending.wire.answer(results({FIRST: (0, 0)}))
    sending.add(SECOND, b"2")
    for _ in range(5):
        await asyncio.sleep(0)
    assert sending.outcomes == []
    assert sending.wire.sent == []
