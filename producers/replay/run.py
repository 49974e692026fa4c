"""Gives the records of a plan to whatever acts on them, in order per partition, and remembers how far it is."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict

from producers.replay.checkpoint import Checkpoint
from producers.replay.pace import Pace
from producers.replay.plan import READ_RECORDS_MAX, OnProgress, Plan, PlannedRange, Progress
from schemas.ports import LogReader, Record

BATCH_RECORDS_MAX: Final = 500
PHASE: Final = "replay"

Act = Callable[[Sequence[Record]], Awaitable[None]]


class Summary(BaseModel):
    """What a run did. ``before`` counts records that were done before it was resumed; ``counts`` are the mode's own."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    mode: str
    records: int
    before: int
    partitions: int
    counts: Mapping[str, int] = {}


async def replay(
    reader: LogReader,
    plan: Plan,
    act: Act,
    *,
    checkpoint: Checkpoint,
    pace: Pace,
    on_progress: OnProgress = lambda _progress: None,
) -> Summary:
    """Give ``act`` the selected records of ``plan``, batch by batch; after each the checkpoint moves.

    A run that was killed gives its last batch again: ``act`` must be idempotent. Raises what ``act`` raises, and
    Retryable when the log cannot be read; the checkpoint then says where to go on.
    """
    before, given = checkpoint.selected, 0
    total = plan.offsets
    done = sum(checkpoint.start_of(planned) - planned.start for planned in plan.ranges)
    matches = plan.selection.matcher()
    for planned in plan.ranges:
        for low, high in _steps(checkpoint.start_of(planned), planned.stop):
            records = await reader.read_range(planned.partition, low, high)
            selected = [record for record in records if matches(record)]
            given += await _give(act, selected, planned, checkpoint, pace)
            if high == planned.stop:
                await asyncio.to_thread(checkpoint.advance, planned, high, 0)
            done += high - low
            on_progress(Progress(PHASE, done, total, before + given))
    await asyncio.to_thread(checkpoint.finish)
    run = checkpoint.run
    return Summary(run_id=run.run_id, mode=run.mode, records=given, before=before, partitions=len(plan.ranges))


async def _give(act: Act, selected: Sequence[Record], planned: PlannedRange, checkpoint: Checkpoint, pace: Pace) -> int:
    size = pace.batch_max(BATCH_RECORDS_MAX)
    for first in range(0, len(selected), size):
        batch = selected[first : first + size]
        await pace.take(len(batch))
        await act(batch)
        await asyncio.to_thread(checkpoint.advance, planned, batch[-1].offset + 1, len(batch))
    return len(selected)


def _steps(start: int, stop: int) -> Iterator[tuple[int, int]]:
    for low in range(start, stop, READ_RECORDS_MAX):
        yield low, min(low + READ_RECORDS_MAX, stop)
