from hypothesis import given
from hypothesis import strategies as st

from schemas.ports import Record
from turnstream.log.known_records import KnownRecords

KEYS = (b"a", b"b", b"c")
BYTES_MAX = 1_000
SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=12)


def record(offset: int) -> Record:
    return Record("t", 0, offset, KEYS[offset % 3], b"", (), 0)


@given(st.integers(0, 20), st.integers(2, 40), st.sets(st.integers(0, 119)), SPANS)
def test_it_knows_exactly_what_lies_in_its_stretch(
    position: int, records_max: int, log: set[int], spans: list[tuple[int, int]]
) -> None:
    known = KnownRecords(position, records_max, BYTES_MAX)
    for start, size in spans:
        stop = start + size
        known.extend(start, stop, [record(offset) for offset in sorted(log) if start <= offset < stop])
        for number, key in enumerate(KEYS):
            lie_there = [one for one in sorted(log) if known.start <= one < known.stop and one % 3 == number]
            assert known.of(key, known.start, known.stop) == lie_there
            assert known.of(key, known.start + 1, known.stop - 1) == [
                one for one in lie_there if known.start < one < known.stop - 1
            ]


def test_what_is_old_is_forgotten_in_halves() -> None:
    known = KnownRecords(0, 10, BYTES_MAX)
    for start in range(0, 100, 5):
        known.extend(start, start + 5, [record(offset) for offset in range(start, start + 5)])
        assert known.stop - known.start <= 10
    assert (known.start, known.stop) == (95, 100)


def test_what_does_not_follow_is_not_learned() -> None:
    known = KnownRecords(10, 10, BYTES_MAX)
    known.extend(12, 15, [record(12)])
    known.extend(5, 10, [record(5)])
    assert (known.start, known.stop) == (10, 10)


def test_the_last_records_themselves_are_kept_and_no_others() -> None:
    known = KnownRecords(0, 10_000, 100)
    for offset in range(1_000):
        known.extend(offset, offset + 1, [record(offset)._replace(value=bytes(9))])
        assert known.at([offset]) == [record(offset)._replace(value=bytes(9))]
    kept = [offset for offset in range(1_000) if known.at([offset]) is not None]
    assert kept == list(range(kept[0], 1_000))
    assert 5 <= len(kept) <= 10
    assert known.at(kept) is not None
    assert known.at([kept[0] - 1, *kept]) is None
