"""The loop of a stage with long work: many keys at once, one record at a time per key."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import count

import structlog

from consumers.dead_letter import explain, turn_of
from consumers.dispatch import Dispatch, Ticket
from consumers.intake import Intake
from consumers.offsets import Watermarks
from consumers.records import receive
from consumers.retry import RetryPolicy
from consumers.work import KeyedWork
from schemas.errors import Fatal, Retryable
from schemas.headers import is_replayed
from schemas.ports import Record, TopicPartition

log = structlog.get_logger()


class KeyedLoop:
    """Starts a task per record in work, and commits the contiguous watermark on a timer."""

    def __init__(self, work: KeyedWork) -> None:
        self._work = work
        self._settings = work.settings
        self._intake = Intake(work, work.settings)
        self._dispatch = Dispatch(work.settings.hold)
        self._watermarks = Watermarks()
        self._tasks: dict[Ticket, asyncio.Task[None]] = {}
        self._group = asyncio.TaskGroup()
        self._stop = asyncio.Event()
        self._paused: frozenset[TopicPartition] = frozenset()
        self._commit_after_s = 0.0
        self._fatal: Fatal | None = None
        work.consumer.on_revoked(self._forget)

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``, then wait ``drain_seconds_max`` for what is in work and cancel the rest. Raises Fatal."""
        self._stop = stop
        async with self._group:
            try:
                while not self._ending():
                    await self._turn()
            except Fatal as error:
                self._fatal = error
            await self._drain()
        if self._fatal is not None:
            raise self._fatal

    async def _turn(self) -> None:
        # Paused first: the limit on what is held has to be known before more is asked for.
        self._regulate()
        room = max(1, min(self._settings.batch_records_max, self._dispatch.room))
        self._accept(await self._intake.next_batch(room))
        await self._commit_if_due()

    def _accept(self, records: Sequence[Record]) -> None:
        for record in records:
            self._watermarks.give(record.source, record.offset)
            self._dispatch.add(record)
        self._start_ready()

    def _start_ready(self) -> None:
        while not self._ending() and (ticket := self._dispatch.take()) is not None:
            self._tasks[ticket] = self._group.create_task(self._work_on(ticket))

    def _ending(self) -> bool:
        return self._stop.is_set() or self._fatal is not None

    async def _work_on(self, ticket: Ticket) -> None:
        record = ticket.record
        try:
            outcome = await self._finish_record(record)
        except Fatal as error:
            self._fatal = error
            return
        finally:
            self._tasks.pop(ticket, None)
        self._work.metrics.count("turnstream_records_total", stage=self._work.stage, outcome=outcome)
        # Cancelled work is never finished: whoever gets the partition next does it again.
        self._watermarks.finish(record.source, record.offset)
        self._dispatch.finish(ticket)
        self._start_ready()

    async def _finish_record(self, record: Record) -> str:
        if is_replayed(record.headers):
            return "replayed"
        try:
            received = receive(self._work.source, record)
            await self._patiently(record, self._settings.record_retry, lambda: self._work.process(received))
        except Fatal:
            raise
        except Exception as error:  # noqa: BLE001 - the one place: a crash on one record must not stop a partition
            await self._bury(record, error)
            return "dead_lettered"
        return "processed"

    async def _bury(self, record: Record, cause: Exception) -> None:
        try:
            await self._patiently(record, self._settings.retry, lambda: self._intake.bury(record, cause))
        except Retryable as error:
            raise Fatal(f"{self._work.stage}: a dead letter could not be written") from error

    async def _patiently(self, record: Record, policy: RetryPolicy, step: Callable[[], Awaitable[None]]) -> None:
        """Run ``step`` until it does not raise Retryable; raise that when ``policy`` is exhausted."""
        waited_s = 0.0
        for attempt in count(1):
            try:
                return await step()
            except Retryable as error:
                if policy.exhausted(attempt, waited_s):
                    raise
                delay_s = policy.delay_s(attempt, self._work.environment.jitter())
                self._tell_retry(record, attempt, delay_s, error)
            await self._work.environment.sleep(delay_s)
            waited_s += delay_s
        raise AssertionError  # pragma: no cover - count() has no end

    def _tell_retry(self, record: Record, attempt: int, delay_s: float, error: Retryable) -> None:
        stage = self._work.stage
        self._work.metrics.count("turnstream_record_retries_total", stage=stage)
        log.warning(
            "record_retried",
            stage=stage,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            turn_id=turn_of(record),
            attempt=attempt,
            delay_s=delay_s,
            error=explain(error),
        )

    def _regulate(self) -> None:
        """Pause partitions that hold too much, resume those that have worked it off."""
        consumer = self._work.consumer
        held = consumer.assignment()
        paused = self._paused & held
        wanted = self._dispatch.overfull(held, paused) | self._far_ahead(held)
        if wanted - paused:
            consumer.pause(tuple(wanted - paused))
        if paused - wanted:
            consumer.resume(tuple(paused - wanted))
        self._paused = wanted

    def _far_ahead(self, held: frozenset[TopicPartition]) -> frozenset[TopicPartition]:
        """Partitions where one slow record holds back the commit of so many that a crash would repeat too much."""
        limit = self._settings.hold.uncommitted_records_max
        return frozenset(partition for partition in held if self._watermarks.unfinished(partition) >= limit)

    async def _commit_if_due(self) -> None:
        now_s = self._work.environment.monotonic_s()
        if now_s >= self._commit_after_s:
            self._commit_after_s = now_s + self._settings.commit_interval_s
            await self._commit()

    async def _commit(self) -> None:
        due = self._watermarks.due()
        if due and await self._intake.commit(due):
            self._watermarks.committed(due)

    async def _drain(self) -> None:
        tasks = tuple(self._tasks.values())
        if tasks and self._fatal is None:
            await asyncio.wait(tasks, timeout=self._settings.drain_seconds_max)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        log.info("stage_drained", stage=self._work.stage, abandoned=sum(task.cancelled() for task in tasks))
        await self._commit()

    def _forget(self, lost: frozenset[TopicPartition]) -> None:
        for ticket in self._dispatch.drop(lost):
            # Without a task when the loop has ended and only leaves the group.
            if ticket in self._tasks:
                self._tasks[ticket].cancel()
        self._watermarks.forget(lost)
        self._paused -= lost
        self._start_ready()
