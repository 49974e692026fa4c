"""The loop of a stateless stage: poll, process, append, commit."""

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from consumers.dead_letter import explain
from consumers.intake import Intake
from consumers.records import live, next_positions, outgoing, receive_all, to_process
from consumers.work import BatchWork
from schemas.errors import Fatal, Malformed, Retryable
from schemas.ports import Outcome, Outgoing, Received, Record, TopicPartition

log = structlog.get_logger()


class BatchLoop:
    """Runs batches of one stage one after another; a batch is committed when all that follows from it is appended."""

    def __init__(self, work: BatchWork) -> None:
        self._work = work
        self._intake = Intake(work, work.settings)
        self._uncommitted: dict[TopicPartition, int] = {}
        work.consumer.on_revoked(self._forget)

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``; what is not committed then is given to the next member."""
        while not stop.is_set():
            records = await self._intake.next_batch(self._work.settings.batch_records_max)
            if records and not await self._intake.until_done(records, self._step, stop):
                return
            self._uncommitted.update(next_positions(self._intake.still_held(records)))
            if self._intake.commit_due():
                await self._commit()
        await self._commit()

    async def _commit(self) -> None:
        if self._uncommitted and await self._intake.commit(self._uncommitted):
            self._uncommitted.clear()

    async def _step(self, records: Sequence[Record]) -> None:
        work = self._work
        started_s = work.environment.monotonic_s()
        records = self._to_process(records)
        if not records:
            return
        decoded = receive_all(work.source, records)
        poison = [(record, got) for record, got in zip(records, decoded, strict=True) if isinstance(got, Malformed)]
        batch = [got for got in decoded if not isinstance(got, Malformed)]
        written: list[list[Outgoing]] = []
        for received, outcome in zip(batch, await self._outcomes(batch), strict=True):
            if isinstance(outcome, Malformed):
                poison.append((received.record, outcome))
                written.append([])
            else:
                written.append([outgoing(emit, received) for emit in outcome])
        poison += await self._append(batch, written)
        for record, cause in poison:
            await self._intake.bury(record, cause)
        self._measure(len(records), len(poison), work.environment.monotonic_s() - started_s)

    def _to_process(self, records: Sequence[Record]) -> Sequence[Record]:
        """Without what has no business here: replays, and what was carried through this stage before."""
        genuine = live(records)
        new = to_process(genuine)
        for outcome, passed_over in (
            ("replayed", len(records) - len(genuine)),
            ("carried_before", len(genuine) - len(new)),
        ):
            if passed_over:
                metrics, stage = self._work.metrics, self._work.stage
                metrics.count("turnstream_records_total", passed_over, stage=stage, outcome=outcome)
        return new

    async def _outcomes(self, batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        if not batch:
            return ()
        try:
            return await self._work.process(batch)
        except (Retryable, Fatal):
            raise
        except Exception as error:  # noqa: BLE001 - the one place: a crash on one record must not stop a partition
            if len(batch) == 1:
                return (_poison(error),)
            log.error("batch_isolated", stage=self._work.stage, records=len(batch), error=explain(error))  # noqa: TRY400 - a traceback may show content
            return [outcome for received in batch for outcome in await self._outcomes((received,))]

    async def _append(
        self, batch: Sequence[Received[Any]], written: Sequence[Sequence[Outgoing]]
    ) -> list[tuple[Record, Malformed]]:
        """Append all in one; only if the producer refuses a record, one by one, to find whose it is."""
        together = [record for records in written for record in records]
        if not together:
            return []
        try:
            await self._work.producer.append(together)
        except Malformed:
            return await self._append_apart(batch, written)
        return []

    async def _append_apart(
        self, batch: Sequence[Received[Any]], written: Sequence[Sequence[Outgoing]]
    ) -> list[tuple[Record, Malformed]]:
        refused: list[tuple[Record, Malformed]] = []
        for received, records in zip(batch, written, strict=True):
            try:
                if records:
                    await self._work.producer.append(records)
            except Malformed as error:
                refused.append((received.record, error))
        return refused

    def _forget(self, lost: frozenset[TopicPartition]) -> None:
        for partition in lost:
            self._uncommitted.pop(partition, None)

    def _measure(self, records: int, poison: int, seconds: float) -> None:
        metrics, stage = self._work.metrics, self._work.stage
        metrics.count("turnstream_records_total", records - poison, stage=stage, outcome="processed")
        if poison:
            metrics.count("turnstream_records_total", poison, stage=stage, outcome="dead_lettered")
        metrics.observe("turnstream_batch_seconds", seconds, stage=stage)
        metrics.observe("turnstream_batch_records", records, stage=stage)


def _poison(error: Exception) -> Malformed:
    # Of a foreign exception only the class is kept: its text may hold content.
    return error if isinstance(error, Malformed) else Malformed(f"crashed: {type(error).__name__}")
