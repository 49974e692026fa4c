"""Stages that share a process, carried through in one go: the same events on the same topics, without the waiting.

Unfused, a turn waits at every hop for an append and a fetch. Fused, the batch of one stage is given at once to the
stage that reads its sink, and all their events are appended together. An event that was carried on is marked, so that
its own stage passes it over when it meets it on the topic; whatever is not marked is processed there as ever.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.errors import Malformed
from schemas.ports import BatchProcess, Emit, Outcome, Received
from stream_processors.topology import StageRow


def fuse(processes: Mapping[StageRow, BatchProcess]) -> Mapping[StageRow, BatchProcess]:
    """Of each row a process that carries its events through the following rows of ``processes``, as far as they go."""
    return {row: Fused(_chain(row, processes)) for row in processes}


def fed_here(rows: Sequence[StageRow]) -> set[StageRow]:
    """Those of ``rows`` that another of them feeds: fused, they meet mostly records that they had already."""
    return {row for row in rows if any(row.source is other.sinks[0] for other in rows)}


class Fused:
    """The ``BatchProcess`` of the first of several rows, each of which reads a sink of the one before."""

    def __init__(self, chain: Sequence[tuple[StageRow, BatchProcess]]) -> None:
        (_, self._first), *self._following = chain

    async def __call__(self, batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        """One outcome per event, in order: what all stages of the chain make of it. Raises Retryable."""
        outcomes = list(await self._first(batch))
        for row, process in self._following:
            await _carry_on(row, process, batch, outcomes)
        return outcomes


async def _carry_on(
    row: StageRow, process: BatchProcess, batch: Sequence[Received[Any]], outcomes: list[Outcome]
) -> None:
    """Add to ``outcomes`` what the stage of ``row`` makes of the events for it, and mark those."""
    places = [
        (index, place, emit)
        for index, outcome in enumerate(outcomes)
        if not isinstance(outcome, Malformed)
        for place, emit in enumerate(outcome)
        if emit.topic.name == row.source.name
    ]
    if not places:
        return
    given = [Received(emit.event, batch[index].record, batch[index].traceparent) for index, _, emit in places]
    for (index, place, emit), further in zip(places, await process(given), strict=True):
        emits = outcomes[index]
        # What the stage cannot take stays unmarked: its own loop meets it on the topic and dead-letters it.
        if not isinstance(further, Malformed) and not isinstance(emits, Malformed):
            outcomes[index] = (*emits[:place], _carried(emit), *emits[place + 1 :], *further)


def _carried(emit: Emit) -> Emit:
    return emit._replace(carried=True)


def _chain(row: StageRow, processes: Mapping[StageRow, BatchProcess]) -> list[tuple[StageRow, BatchProcess]]:
    chain = [(row, processes[row])]
    while (following := _reader_of(chain[-1][0], processes)) is not None:
        chain.append((following, processes[following]))
    return chain


def _reader_of(row: StageRow, processes: Mapping[StageRow, BatchProcess]) -> StageRow | None:
    # A turn goes on along the first sink; what else a row writes is told to others, who read it in their own time.
    return next((other for other in processes if other.source is row.sinks[0]), None)
