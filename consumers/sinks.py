"""The loop of a sink: poll, write, commit what a restart need not read again."""

import asyncio
from collections.abc import Sequence

from consumers.intake import Intake
from consumers.records import live, next_positions, receive_all
from consumers.work import SinkWork
from schemas.errors import Malformed
from schemas.ports import Record, TopicPartition


class SinkLoop:
    """Gives a sink the records in log order and commits its safe positions."""

    def __init__(self, work: SinkWork) -> None:
        self._work = work
        self._intake = Intake(work, work.settings)
        self._written: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        work.consumer.on_revoked(self._forget)

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``; what the sink still holds is read again by the next member."""
        while not stop.is_set():
            records = await self._intake.next_batch(self._work.settings.batch_records_max)
            if records and not await self._intake.until_done(records, self._step, stop):
                return
            if self._intake.commit_due():
                await self._commit()
        await self._commit()

    async def _step(self, records: Sequence[Record]) -> None:
        work = self._work
        started_s = work.environment.monotonic_s()
        taken = live(records)
        decoded = receive_all(work.source, taken)
        batch = [got for got in decoded if not isinstance(got, Malformed)]
        if batch:
            await work.sink.write(batch)
        for record, got in zip(taken, decoded, strict=True):
            if isinstance(got, Malformed):
                await self._intake.bury(record, got)
        self._written.update(next_positions(self._intake.still_held(records)))
        if len(taken) < len(records):
            replayed = len(records) - len(taken)
            work.metrics.count("turnstream_records_total", replayed, stage=work.stage, outcome="replayed")
        self._measure(len(taken), len(taken) - len(batch), work.environment.monotonic_s() - started_s)

    async def _commit(self) -> None:
        safe = {
            partition: self._work.sink.safe_position(partition, position)
            for partition, position in self._written.items()
        }
        due = {
            partition: position for partition, position in safe.items() if self._committed.get(partition) != position
        }
        if due and await self._intake.commit(due):
            self._committed.update({partition: due[partition] for partition in due if partition in self._written})

    def _measure(self, records: int, poison: int, seconds: float) -> None:
        metrics, stage = self._work.metrics, self._work.stage
        metrics.count("turnstream_records_total", records - poison, stage=stage, outcome="processed")
        if poison:
            metrics.count("turnstream_records_total", poison, stage=stage, outcome="dead_lettered")
        metrics.observe("turnstream_batch_seconds", seconds, stage=stage)
        metrics.observe("turnstream_batch_records", records, stage=stage)

    def _forget(self, lost: frozenset[TopicPartition]) -> None:
        for partition in lost:
            self._written.pop(partition, None)
            self._committed.pop(partition, None)
        self._work.sink.forget(lost)
