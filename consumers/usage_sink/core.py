"""Which usage goes into which file: pure decisions of the Parquet writer. No I/O, clock or random.

**Why a crash repeats no row.** A file's name says which offsets of which partition it covers, and it holds every row of
its folder in that range. So a row is published if, and only if, its folder has a file whose range contains its offset;
whoever writes looks first and leaves those rows out, whatever ranges the one before it had chosen.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from schemas.events import UsageRecorded
from schemas.ports import TopicPartition

STAGE: Final = "usage_sink"
SUFFIX: Final = ".parquet"
_NAME: Final = re.compile(r"(?P<topic>.+)-(?P<partition>\d+)-(?P<first>\d+)-(?P<last>\d+)\.parquet")
_MS_PER_S: Final = 1_000


class UsageSinkSettings(BaseModel):
    """Where the usage files go, and when one is complete."""

    model_config = ConfigDict(frozen=True)

    url: str | None = Field(
        default=None, description="A folder, or a URL that fsspec knows (`file://`, `s3://`, ...). Absent: no files."
    )
    options: Mapping[str, str] = Field(
        default={}, description="What fsspec's file system is opened with, such as `endpoint_url`; no secrets."
    )
    file_rows_max: int = Field(default=100_000, ge=1, description="A file is written when so many rows wait for it.")
    file_seconds_max: float = Field(default=300, gt=0, description="Or when the first of them has waited so long.")
    roll_check_seconds: float = Field(default=1.0, gt=0, description="How often that is looked at.")


class Line(NamedTuple):
    """One usage event and its offset."""

    offset: int
    event: UsageRecorded


class OffsetRange(NamedTuple):
    """Offsets of one partition, both ends included."""

    first: int
    last: int


class Folder(NamedTuple):
    """A Hive partition: the UTC day on which the turn was submitted, and the region that answered."""

    date: str
    region: str

    @property
    def path(self) -> str:
        """Relative to the lake; a region is escaped as a URL would."""
        return f"date={self.date}/region={quote(self.region, safe='')}"


class UsageFile(NamedTuple):
    """A file to publish: its rows in log order, and the offsets for which it speaks."""

    folder: Folder
    partition: TopicPartition
    span: OffsetRange
    lines: Sequence[Line]

    @property
    def name(self) -> str:
        """``<topic>-<partition>-<first offset>-<last offset>.parquet``."""
        return f"{self.partition.topic}-{self.partition.partition}-{self.span.first}-{self.span.last}{SUFFIX}"


@dataclass
class OpenFile:
    """What of one partition waits to be published."""

    opened_s: float = 0.0
    next_offset: int = 0
    lines: list[Line] = field(default_factory=list)

    def add(self, offset: int, event: UsageRecorded, now_s: float) -> bool:
        """Take the next row; False for one that was taken before, when a batch is given again."""
        if offset < self.next_offset:
            return False
        if not self.lines:
            self.opened_s = now_s
        self.next_offset = offset + 1
        self.lines.append(Line(offset, event))
        return True

    def drop(self, count: int, now_s: float) -> None:
        """Forget the first ``count`` rows: they are published."""
        del self.lines[:count]
        self.opened_s = now_s

    def due(self, now_s: float, settings: UsageSinkSettings) -> bool:
        """Whether it is to be published now."""
        if not self.lines:
            return False
        return len(self.lines) >= settings.file_rows_max or now_s - self.opened_s >= settings.file_seconds_max


def folder_of(event: UsageRecorded) -> Folder:
    """Where the row of ``event`` lies. Every bill of a turn names the same day, so repeats meet in one folder."""
    submitted = datetime.fromtimestamp(event.submitted_at_ms // _MS_PER_S, UTC)
    return Folder(submitted.date().isoformat(), event.region)


def by_folder(lines: Iterable[Line]) -> Mapping[Folder, Sequence[Line]]:
    """The rows of each folder, in their order."""
    found: dict[Folder, list[Line]] = {}
    for line in lines:
        found.setdefault(folder_of(line.event), []).append(line)
    return found


def one_per_turn(lines: Iterable[Line]) -> Sequence[Line]:
    """The row that counts for each turn, in log order: the first that used tokens, else the first."""
    kept: dict[str, Line] = {}
    for line in lines:
        before = kept.get(line.event.turn_id)
        if before is None or (before.event.unused and not line.event.unused):
            kept[line.event.turn_id] = line
    return sorted(kept.values())


def range_in_name(name: str, partition: TopicPartition) -> OffsetRange | None:
    """What the file of that name covers of ``partition``; None for any other file."""
    match = _NAME.fullmatch(name)
    if match is None or (match["topic"], int(match["partition"])) != partition:
        return None
    return OffsetRange(int(match["first"]), int(match["last"]))


def uncovered(span: OffsetRange, covered: Iterable[OffsetRange]) -> Sequence[OffsetRange]:
    """The parts of ``span`` that no range in ``covered`` contains, in order."""
    gaps: list[OffsetRange] = []
    start = span.first
    for first, last in sorted(covered):
        if last < start:
            continue
        if first > span.last:
            break
        if first > start:
            gaps.append(OffsetRange(start, first - 1))
        start = last + 1
    if start <= span.last:
        gaps.append(OffsetRange(start, span.last))
    return gaps


def files_to_write(
    partition: TopicPartition, lines: Sequence[Line], published: Mapping[Folder, Iterable[OffsetRange]]
) -> Sequence[UsageFile]:
    """The files for ``lines``, one per folder unless parts of it are ``published`` already; none without rows."""
    if not lines:
        return ()
    span = OffsetRange(lines[0].offset, lines[-1].offset)
    files: list[UsageFile] = []
    for folder, rows in by_folder(one_per_turn(lines)).items():
        for gap in uncovered(span, published.get(folder, ())):
            inside = [line for line in rows if gap.first <= line.offset <= gap.last]
            if inside:
                files.append(UsageFile(folder, partition, gap, inside))
    return files
