"""A trace reads a bounded window and finds exactly the records of its turn."""

from collections.abc import Mapping, Sequence

import pytest

from schemas import headers, ids, topics
from schemas.errors import Retryable
from schemas.ports import Record, TopicPartition
from turnstream.trace.search import TraceSettings, find_records, relevant

T0 = 1_795_000_000_000
TURN = ids.new_turn_id(T0, 3, bytes(8))
OTHER = ids.new_turn_id(T0, 3, bytes(7) + b"1")
SETTINGS = TraceSettings(clock_skew_ms=100, window_ms=1_000, partition_records_max=50, reads_in_flight_max=2)
HOME = TopicPartition(topics.TOKENS.name, 3)
INPUT = TopicPartition(topics.TURNS_SUBMITTED.name, 0)


class ReaderOfLists:
    """A ``LogReader`` over lists of (timestamp, turn id); counts what is read."""

    def __init__(self, content: Mapping[TopicPartition, Sequence[tuple[int, str | None]]]) -> None:
        self._content = content
        self.ranges: dict[TopicPartition, tuple[int, int]] = {}

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {each: len(self._content.get(each, ())) for each in partitions}

    async def offsets_at(self, partitions: Sequence[TopicPartition], timestamp_ms: int) -> Mapping[TopicPartition, int]:
        return {each: self._first_not_older(each, timestamp_ms) for each in partitions}

    def _first_not_older(self, partition: TopicPartition, timestamp_ms: int) -> int:
        times = [at_ms for at_ms, _ in self._content.get(partition, ())]
        return next((offset for offset, at_ms in enumerate(times) if at_ms >= timestamp_ms), len(times))

    async def read_range(self, partition: TopicPartition, start: int, stop: int) -> Sequence[Record]:
        self.ranges[partition] = (start, stop)
        records = enumerate(self._content[partition])
        return [
            Record(*partition, offset, b"k", b"{}", headers.make_headers(((headers.TURN, turn_id),)), at_ms)
            for offset, (at_ms, turn_id) in records
            if start <= offset < stop
        ]

    async def offsets_of(self, partition: TopicPartition, key: bytes, start: int, stop: int) -> Sequence[int]:
        raise AssertionError(f"a search reads whole ranges: {partition} {key!r} {start} {stop}")

    async def read_key(self, partition: TopicPartition, key: bytes, start: int, stop: int) -> Sequence[Record]:
        raise AssertionError(f"a search reads whole ranges: {partition} {key!r} {start} {stop}")


async def test_it_finds_the_turn_among_others() -> None:
    reader = ReaderOfLists(
        {INPUT: [(T0, OTHER), (T0 + 1, TURN), (T0 + 2, None)], HOME: [(T0 + 3, TURN), (T0 + 4, OTHER)]}
    )
    found = await find_records(reader, [INPUT, HOME], TURN, SETTINGS)
    assert sorted((record.topic, record.offset) for record in found.records) == [(HOME.topic, 0), (INPUT.topic, 1)]
    assert found.cut_off == ()


async def test_what_operators_did_with_a_turn_is_found_whenever_they_did_it() -> None:
    audit = TopicPartition(topics.OPERATIONS_AUDIT.name, 0)
    reader = ReaderOfLists({audit: [(T0, None), (T0 + 86_400_000, TURN)]})
    found = await find_records(reader, [audit], TURN, SETTINGS)
    assert [record.offset for record in found.records] == [1]


async def test_it_reads_the_window_and_nothing_else() -> None:
    times = [T0 - 101, T0 - 100, T0, T0 + 999, T0 + 1_000]
    reader = ReaderOfLists({INPUT: [(at_ms, TURN) for at_ms in times]})
    found = await find_records(reader, [INPUT], TURN, SETTINGS)
    assert reader.ranges == {INPUT: (1, 4)}
    assert len(found.records) == 3


async def test_a_partition_without_records_in_the_window_is_not_read() -> None:
    reader = ReaderOfLists({INPUT: [(T0 - 5_000, OTHER)], HOME: []})
    assert (await find_records(reader, [INPUT, HOME], TURN, SETTINGS)).records == ()
    assert reader.ranges == {}


async def test_a_full_partition_is_cut_off_and_named() -> None:
    reader = ReaderOfLists({INPUT: [(T0, TURN)] * 51})
    found = await find_records(reader, [INPUT], TURN, SETTINGS)
    assert len(found.records) == 50
    assert found.cut_off == (INPUT,)


def test_of_the_tokens_only_the_home_partition_is_relevant() -> None:
    tokens = [TopicPartition(topics.TOKENS.name, number) for number in range(8)]
    assert relevant([INPUT, *tokens], TURN) == [INPUT, HOME]


async def test_a_failing_log_is_reported() -> None:
    class BrokenReader(ReaderOfLists):
        async def read_range(self, partition: TopicPartition, start: int, stop: int) -> Sequence[Record]:
            raise Retryable(f"cannot read {partition.topic} {start} {stop}")

    with pytest.raises(Retryable, match="cannot read"):
        await find_records(BrokenReader({INPUT: [(T0, TURN)]}), [INPUT], TURN, SETTINGS)
