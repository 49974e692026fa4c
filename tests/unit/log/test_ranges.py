from hypothesis import given
from hypothesis import strategies as st

from schemas.ports import Record
from turnstream.log.ranges import PartitionReads, RangeRead, Span

RANGES = st.lists(st.tuples(st.integers(0, 80), st.integers(1, 30)), min_size=1, max_size=8)


def record(offset: int) -> Record:
    return Record("t", 0, offset, None, b"", (), 0)


def fetch(log: list[int], span: Span, records_max: int) -> tuple[list[Record], int]:
    """What a broker answers: a few records from the start of the span on, perhaps beyond its end."""
    found = [offset for offset in log if offset >= span.start][:records_max]
    if len(found) < records_max:
        return [record(offset) for offset in found], 120
    return [record(offset) for offset in found], found[-1] + 1


@given(RANGES, st.sets(st.integers(0, 119)), st.integers(0, 20), st.integers(1, 40))
def test_every_read_gets_exactly_its_records(
    ranges: list[tuple[int, int]], offsets: set[int], gap: int, records_max: int
) -> None:
    log = sorted(offsets)
    reads = PartitionReads(gap)
    for start, size in ranges:
        reads.add(RangeRead(start, start + size))
    wanted = sorted([offset for offset in log if start <= offset < start + size] for start, size in ranges)
    complete: list[list[int]] = []
    for _ in range(1_000):
        if not reads:
            break
        span = reads.target()
        complete += [
            [one.offset for one in read.entries] for read in reads.take(span.start, *fetch(log, span, records_max))
        ]
    assert sorted(complete) == wanted


def test_near_reads_share_a_fetch_and_far_ones_take_turns() -> None:
    reads = PartitionReads(gap_records_max=10)
    for start in (1_000, 995, 0):
        reads.add(RangeRead(start, start + 20))
    assert reads.target() == Span(995, 1_020)
    assert reads.target() == Span(995, 1_020)
    assert reads.target() == Span(0, 20)


def test_a_read_that_waits_for_records_does_not_hold_up_another() -> None:
    reads = PartitionReads(gap_records_max=10)
    waiting, ready = RangeRead(5, 100), RangeRead(2, 4)
    reads.add(waiting)
    reads.add(ready)
    start = reads.target().start
    assert reads.take(start, [record(2), record(3), record(4)], 5) == [ready]
    assert [one.offset for one in ready.entries] == [2, 3]
    assert len(reads) == 1


def test_a_read_that_nobody_waits_for_is_gone() -> None:
    reads = PartitionReads(gap_records_max=10)
    read = RangeRead(0, 5)
    reads.add(read)
    reads.discard(read)
    reads.discard(read)
    assert not reads
