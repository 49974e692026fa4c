"""What a replay would mean, found out by reading the log and changing nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from producers.replay.reading import Reading
from producers.replay.selection import Selection
from schemas.models import Price
from schemas.ports import LogReader, Record, TopicPartition

READ_RECORDS_MAX: Final = 1_000
# Clocks of producers differ: a record with an older time may lie behind the first one of a newer.
SKEW_MS: Final = 60_000
# Where no stage has counted tokens: what English text takes on average.
CHARS_PER_TOKEN: Final = 4
_TOKENS_PER_PRICE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a replay is, in offsets of the planned ranges: ``done`` of ``total``; ``selected`` records of them."""

    phase: str
    done: int
    total: int
    selected: int


OnProgress = Callable[[Progress], None]


class PlannedRange(BaseModel):
    """Offsets ``start <= offset < stop`` of one partition, and how many of its records are selected."""

    model_config = ConfigDict(frozen=True)

    partition: TopicPartition
    start: int
    stop: int
    selected: int = 0


class Plan(BaseModel):
    """The records that a selection means. Times in Unix milliseconds, None without a record.

    ``turns`` counts distinct ones. Tokens and cost are what the selected turns would take if each were asked once more:
    ``completion_tokens_max`` is what the records allow, and a record that was not counted yet is taken at four
    characters a token. ``unpriced`` records have tokens and name no model with a price: ``cost_usd`` is without them.
    """

    model_config = ConfigDict(frozen=True)

    selection: Selection
    ranges: tuple[PlannedRange, ...]
    scanned: int = 0
    selected: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    turns: int = 0
    prompt_tokens: int = 0
    completion_tokens_max: int = 0
    cost_usd: float = Field(default=0.0, ge=0)
    unpriced: int = 0

    @property
    def offsets(self) -> int:
        """How many offsets the ranges span."""
        return sum(each.stop - each.start for each in self.ranges)


async def make_plan(
    reader: LogReader,
    partitions: Sequence[TopicPartition],
    selection: Selection,
    on_progress: OnProgress = lambda _progress: None,
    *,
    prices: Mapping[str, Price] | None = None,
    phase: str = "plan",
) -> Plan:
    """Read the topic's ``partitions`` and count what ``selection`` means; ``prices`` by model id or alias.

    Raises Retryable when the log cannot be read, ValueError for offsets of a partition that does not exist.
    """
    spans = await find_ranges(reader, partitions, selection)
    count = _Count(prices or {})
    matches = selection.matcher()
    total = sum(span.stop - span.start for span in spans)
    done, ranges = 0, list[PlannedRange]()
    for span in spans:
        before = count.selected
        for low in range(span.start, span.stop, READ_RECORDS_MAX):
            high = min(low + READ_RECORDS_MAX, span.stop)
            for record in await reader.read_range(span.partition, low, high):
                count.scanned += 1
                if matches(record):
                    count.add(record)
            done += high - low
            on_progress(Progress(phase, done, total, count.selected))
        ranges.append(span.model_copy(update={"selected": count.selected - before}))
    return count.plan(selection, tuple(ranges))


async def find_ranges(
    reader: LogReader, partitions: Sequence[TopicPartition], selection: Selection
) -> list[PlannedRange]:
    """The offsets that must be read for ``selection``; partitions without any are left out. Raises as ``make_plan``."""
    asked = selection.offsets
    missing = set(asked or ()) - {each.partition for each in partitions}
    if missing:
        raise ValueError(f"{selection.topic} has no partition {min(missing)}")
    wanted = [each for each in partitions if asked is None or each.partition in asked]
    # The oldest offset that retention left, even where no time is given: nothing before it can be read.
    starts = await reader.offsets_at(wanted, selection.since_ms or 0)
    ends = await reader.end_offsets(wanted)
    if selection.until_ms is not None:
        late = await reader.offsets_at(wanted, selection.until_ms + SKEW_MS)
        ends = {each: min(ends[each], late[each]) for each in wanted}
    ranges: list[PlannedRange] = []
    for each in wanted:
        first, stop = (0, ends[each]) if asked is None else asked[each.partition]
        start, stop = max(starts[each], first), min(ends[each], stop)
        if start < stop:
            ranges.append(PlannedRange(partition=each, start=start, stop=stop))
    return ranges


@dataclass
class _Count:
    """Adds up what is selected."""

    prices: Mapping[str, Price]
    scanned: int = 0
    selected: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    turns: set[str] = field(default_factory=set)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0

    def add(self, record: Record) -> None:
        self.selected += 1
        at_ms = record.timestamp_ms
        self.first_ms = at_ms if self.first_ms is None else min(self.first_ms, at_ms)
        self.last_ms = at_ms if self.last_ms is None else max(self.last_ms, at_ms)
        reading = Reading(record)
        if (turn_id := reading.turn_id) is not None:
            self.turns.add(turn_id)
        prompt, completion = _tokens(reading.value)
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        price = self.prices.get(_model(reading.value))
        if price is not None:
            self.cost_usd += (prompt * price.input + completion * price.output) / _TOKENS_PER_PRICE
        elif prompt or completion:
            self.unpriced += 1

    def plan(self, selection: Selection, ranges: tuple[PlannedRange, ...]) -> Plan:
        return Plan(
            selection=selection,
            ranges=ranges,
            scanned=self.scanned,
            selected=self.selected,
            first_ms=self.first_ms,
            last_ms=self.last_ms,
            turns=len(self.turns),
            prompt_tokens=self.prompt_tokens,
            completion_tokens_max=self.completion_tokens,
            cost_usd=self.cost_usd,
            unpriced=self.unpriced,
        )


def _model(value: Mapping[str, Any]) -> str:
    turn = value.get("turn")
    asked = turn.get("model") if isinstance(turn, dict) else None
    return str(value.get("served_model") or asked or value.get("model") or "")


def _tokens(value: Mapping[str, Any]) -> tuple[int, int]:
    """Prompt tokens, and completion tokens at most, of one record: as counted on it, else by its characters."""
    usage, prompt, turn = value.get("usage"), value.get("prompt"), value.get("turn")
    if isinstance(usage, dict):
        return _int(usage.get("prompt_tokens")), _int(usage.get("completion_tokens"))
    if isinstance(prompt, dict):
        return _int(prompt.get("prompt_tokens")), _int(prompt.get("max_tokens"))
    if isinstance(turn, dict):
        return _chars(value.get("input")) // CHARS_PER_TOKEN, _int(turn.get("max_tokens"))
    return 0, 0


def _chars(messages: object) -> int:
    found = messages if isinstance(messages, list) else []
    return sum(len(str(each.get("content", ""))) for each in found if isinstance(each, dict))


def _int(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
