"""Which usage goes into which file."""

from hypothesis import given
from hypothesis import strategies as st

from consumers.usage_sink.core import (
    Folder,
    Line,
    OffsetRange,
    OpenFile,
    UsageSinkSettings,
    files_to_write,
    one_per_turn,
    range_in_name,
    uncovered,
)
from schemas.ports import TopicPartition
from schemas.topics import USAGE_EVENTS
from tests.support.turn_events import turn_id
from tests.support.usage_events import unused_event, usage_event

PARTITION = TopicPartition(USAGE_EVENTS.name, 3)
DAY_MS = 86_400_000
MIDNIGHT_MS = 20_000 * DAY_MS
OFFSETS_MAX = 40
SPANS = st.tuples(st.integers(0, OFFSETS_MAX), st.integers(0, 9)).map(lambda pair: OffsetRange(pair[0], sum(pair)))


def test_a_file_is_named_after_what_it_covers_and_lies_in_the_folder_of_its_day_and_region() -> None:
    lines = [Line(7, usage_event(1, at_ms=MIDNIGHT_MS)), Line(9, usage_event(2, at_ms=MIDNIGHT_MS + DAY_MS - 1))]
    (file,) = files_to_write(PARTITION, lines, {})
    assert file.folder.path == "date=2024-10-04/region=local"
    assert file.name == "usage.events.v1-3-7-9.parquet"
    assert range_in_name(file.name, PARTITION) == OffsetRange(7, 9)


def test_other_names_cover_nothing() -> None:
    other = TopicPartition(USAGE_EVENTS.name, 13)
    name = "usage.events.v1-3-7-9.parquet"
    assert range_in_name(name, other) is None
    for wrong in (f".{name}.0a0b.tmp", "notes.txt", "usage.events.v2-3-7-9.parquet", f"{name}.bak", "part-0.parquet"):
        assert range_in_name(wrong, PARTITION) is None


def test_rows_before_and_after_midnight_and_of_two_regions_are_apart() -> None:
    lines = [
        Line(1, usage_event(1, at_ms=MIDNIGHT_MS - 1)),
        Line(2, usage_event(2, at_ms=MIDNIGHT_MS)),
        Line(3, usage_event(3, at_ms=MIDNIGHT_MS - 1)),
        Line(4, usage_event(4, at_ms=MIDNIGHT_MS, region="north/1")),
    ]
    found = {file.folder.path: [line.offset for line in file.lines] for file in files_to_write(PARTITION, lines, {})}
    assert found == {
        "date=2024-10-03/region=local": [1, 3],
        "date=2024-10-04/region=local": [2],
        "date=2024-10-04/region=north%2F1": [4],
    }


def test_of_two_bills_of_a_turn_a_used_one_counts_and_else_the_first() -> None:
    used, again, nothing = usage_event(1), usage_event(1), unused_event(1)
    assert [line.offset for line in one_per_turn([Line(1, nothing), Line(2, used), Line(3, again)])] == [2]
    assert [line.offset for line in one_per_turn([Line(1, used), Line(2, nothing)])] == [1]
    assert [line.offset for line in one_per_turn([Line(1, nothing), Line(2, nothing)])] == [1]
    assert [line.offset for line in one_per_turn([Line(2, usage_event(2)), Line(1, used)])] == [1, 2]


def test_what_another_owner_published_is_left_out_in_each_folder_by_itself() -> None:
    """A crash between two files of one range: the first is there, the second is not."""
    lines = [Line(offset, usage_event(offset, at_ms=MIDNIGHT_MS - offset % 2)) for offset in range(1, 7)]
    before, after = (Folder(day, "local") for day in ("2024-10-03", "2024-10-04"))
    files = files_to_write(PARTITION, lines, {before: [OffsetRange(1, 4)]})
    assert {(file.folder, file.span, tuple(line.offset for line in file.lines)) for file in files} == {
        (before, OffsetRange(5, 6), (5,)),
        (after, OffsetRange(1, 6), (2, 4, 6)),
    }
    assert files_to_write(PARTITION, lines, {before: [OffsetRange(0, 9)], after: [OffsetRange(1, 6)]}) == []


@given(SPANS, st.lists(SPANS, max_size=8))
def test_gaps_are_what_no_range_covers(span: OffsetRange, covered: list[OffsetRange]) -> None:
    gaps = uncovered(span, covered)
    wanted = set(range(span.first, span.last + 1)) - {one for low, high in covered for one in range(low, high + 1)}
    assert [one for low, high in gaps for one in range(low, high + 1)] == sorted(wanted)


def test_a_file_is_due_when_it_is_full_or_old() -> None:
    settings = UsageSinkSettings(file_rows_max=2, file_seconds_max=10)
    file = OpenFile()
    assert not file.due(100, settings)
    assert file.add(5, usage_event(1), now_s=100)
    assert not file.due(109, settings)
    assert file.due(110, settings)
    assert file.add(8, usage_event(2), now_s=101)
    assert file.due(101, settings)
    file.drop(1, now_s=102)
    assert (file.lines[0].offset, file.opened_s) == (8, 102)


def test_a_batch_that_is_given_again_is_taken_once() -> None:
    file = OpenFile()
    assert [file.add(offset, usage_event(offset), 0) for offset in (3, 4, 3, 4, 5)] == [True, True, False, False, True]
    assert [line.event.turn_id for line in file.lines] == [turn_id(3), turn_id(4), turn_id(5)]
