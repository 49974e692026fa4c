"""Owners of a partition that crash, fall asleep and write side by side, in any order: every row is in one file."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from consumers.usage_sink.core import Folder, Line, OffsetRange, UsageFile, by_folder, files_to_write
from schemas.ports import TopicPartition
from schemas.topics import USAGE_EVENTS
from tests.support.usage_events import usage_event

PARTITION = TopicPartition(USAGE_EVENTS.name, 0)
DAY_MS = 86_400_000
MIDNIGHT_MS = 20_000 * DAY_MS
OWNERS = 3

READ, PUBLISH, PUBLISH_AND_CRASH, COMMIT, CRASH = range(5)
STEPS = st.lists(
    st.tuples(st.integers(0, OWNERS - 1), st.sampled_from((READ, READ, PUBLISH, PUBLISH_AND_CRASH, COMMIT, CRASH))),
    max_size=40,
)


@dataclass
class Lake:
    """Files by folder; ``names`` are all that an owner can see of them."""

    files: dict[Folder, list[UsageFile]] = field(default_factory=dict)

    def published(self, folders: Sequence[Folder]) -> dict[Folder, list[OffsetRange]]:
        return {folder: [file.span for file in self.files.get(folder, ())] for folder in folders}

    def offsets(self) -> list[int]:
        return sorted(line.offset for files in self.files.values() for file in files for line in file.lines)


@dataclass
class Owner:
    """One process: where it reads on, and what it holds. A crash takes both."""

    position: int | None = None
    lines: list[Line] = field(default_factory=list)

    def publish(self, lake: Lake, files_max: int | None = None) -> None:
        published = lake.published(tuple(by_folder(self.lines)))
        for file in files_to_write(PARTITION, self.lines, published)[:files_max]:
            lake.files.setdefault(file.folder, []).append(file)

    def crash(self) -> None:
        self.position, self.lines = None, []


@given(st.lists(st.booleans(), min_size=1, max_size=12), STEPS, st.integers(1, 5))
def test_every_row_is_in_one_file_whatever_happens_to_its_owners(
    days: list[bool], steps: list[tuple[int, int]], records_a_read: int
) -> None:
    log = [Line(at, usage_event(at, at_ms=MIDNIGHT_MS - later)) for at, later in enumerate(days)]
    lake, committed, owners = Lake(), 0, [Owner() for _ in range(OWNERS)]
    for number, step in steps:
        owner = owners[number]
        if step == READ:
            start = committed if owner.position is None else owner.position
            owner.lines += log[start : start + records_a_read]
            owner.position = min(start + records_a_read, len(log))
        elif step == PUBLISH:
            owner.publish(lake)
            owner.lines = []
        elif step == PUBLISH_AND_CRASH:
            # Between the files of two days.
            owner.publish(lake, files_max=1)
            owner.crash()
        elif step == COMMIT and owner.position is not None:
            committed = owner.lines[0].offset if owner.lines else owner.position
        elif step == CRASH:
            owner.crash()
        assert len(set(lake.offsets())) == len(lake.offsets())
    last = Owner(lines=log[committed:])
    last.publish(lake)
    assert lake.offsets() == list(range(len(log)))
