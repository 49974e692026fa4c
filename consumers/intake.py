"""The side of the loop that faces the log: polling, waiting while paused, committing, burying poison."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count

import structlog

from consumers.dead_letter import bury, explain, turn_of
from consumers.work import LoopSettings, Work
from schemas.errors import Fatal, Malformed, Retryable
from schemas.ports import Outgoing, Record, TopicPartition

log = structlog.get_logger()

Step = Callable[[Sequence[Record]], Awaitable[None]]


class Intake:
    """One member's view of its source.

    Whatever waits here keeps polling, because a member that does not poll is taken for dead; what is paused delivers
    nothing meanwhile, and what a rebalance delivers nevertheless is kept for the next batch.
    """

    def __init__(self, work: Work, settings: LoopSettings) -> None:
        self._work = work
        self._settings = settings
        self._consumer = work.consumer
        self._kept: list[Record] = []
        self._paused_all = False
        self._commit_asked_s = work.environment.monotonic_s()
        self._uncommitted_since_s: float | None = None
        # Partitions that were lost since the last batch was handed out.
        self._lost: frozenset[TopicPartition] = frozenset()
        work.consumer.on_revoked(self._forget)

    async def next_batch(self, records_max: int) -> list[Record]:
        """The next records, at most ``records_max``; empty after ``poll_seconds_max`` without any.

        A broker that fails is polled again after a pause; raises Fatal when that goes on for too long.
        """
        self._lost = frozenset()
        if self._paused_all:
            self._consumer.resume(tuple(self._consumer.assignment()))
            self._paused_all = False
        if self._kept:
            batch, self._kept = self._kept[:records_max], self._kept[records_max:]
            self._tell_progress()
            return batch
        return await self._poll(records_max, self._settings.poll_seconds_max)

    async def until_done(self, records: Sequence[Record], step: Step, stop: asyncio.Event) -> bool:
        """Run ``step`` on ``records`` until it does not raise Retryable; records of lost partitions are left out.

        False if ``stop`` was set first. Raises Fatal when the retry policy is exhausted: a fresh process may reach
        what this one cannot.
        """
        waited_s = 0.0
        for attempt in count(1):
            try:
                await step(self.still_held(records))
            except Retryable as error:
                waited_s += await self._back_off(attempt, waited_s, error, stop)
                if stop.is_set():
                    return False
            else:
                return True
        raise AssertionError  # pragma: no cover - count() has no end

    def still_held(self, records: Sequence[Record]) -> Sequence[Record]:
        """Those of ``records``, of the last batch, whose partition is still this member's."""
        if not self._lost:
            return records
        return [record for record in records if record.source not in self._lost]

    def commit_due(self) -> bool:
        """Whether ``commit_interval_s`` has passed since this was last true."""
        now_s = self._work.environment.monotonic_s()
        if now_s - self._commit_asked_s < self._settings.commit_interval_s:
            return False
        self._commit_asked_s = now_s
        return True

    async def commit(self, positions: Mapping[TopicPartition, int]) -> bool:
        """Whether the positions of held partitions were committed; after a rebalance they may not be.

        Raises Fatal when that fails for ``uncommitted_seconds_max``: the group may have given the partitions to another
        long ago, and only a fresh member learns it.
        """
        held = self._consumer.assignment()
        ours = {partition: position for partition, position in positions.items() if partition in held}
        if not ours:
            self._uncommitted_since_s = None
            return False
        try:
            await self._consumer.commit(ours)
        except Retryable as error:
            log.warning("commit_failed", stage=self._work.stage, partitions=len(ours), error=explain(error))
            self._note_uncommitted(error)
            return False
        self._uncommitted_since_s = None
        return True

    def _note_uncommitted(self, error: Retryable) -> None:
        now_s = self._work.environment.monotonic_s()
        if self._uncommitted_since_s is None:
            self._uncommitted_since_s = now_s
        seconds = now_s - self._uncommitted_since_s
        if seconds >= self._settings.uncommitted_seconds_max:
            raise Fatal(f"{self._work.stage}: nothing could be committed for {seconds:.0f} s") from error

    async def bury(self, record: Record, cause: Exception) -> None:
        """Write the dead letter of ``record`` and end its turn. Raises Retryable while the log does not take them."""
        work = self._work
        letters = bury(work.source, record, work.stage, cause, work.region)
        for letter in letters:
            await self._append_letter(letter)
        work.metrics.count("turnstream_dead_letters_total", stage=work.stage)
        log.error(
            "record_dead_lettered",
            stage=work.stage,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            turn_id=turn_of(record),
            error=explain(cause),
        )

    async def _append_letter(self, letter: Outgoing) -> None:
        try:
            await self._work.producer.append((letter,))
        except Malformed as error:
            # A turn id may name a partition that never was: no client can wait there.
            log.error("dead_letter_refused", stage=self._work.stage, topic=letter.topic, error=explain(error))  # noqa: TRY400 - a decision, not a crash

    async def _back_off(self, attempt: int, waited_s: float, error: Retryable, stop: asyncio.Event) -> float:
        work, policy = self._work, self._settings.retry
        if policy.exhausted(attempt, waited_s):
            raise Fatal(f"{work.stage}: gave up after {attempt} tries") from error
        delay_s = policy.delay_s(attempt, work.environment.jitter())
        work.metrics.count("turnstream_record_retries_total", stage=work.stage)
        log.warning("batch_retried", stage=work.stage, attempt=attempt, delay_s=delay_s, error=explain(error))
        await self._wait_paused(delay_s, stop)
        return delay_s

    async def _wait_paused(self, delay_s: float, stop: asyncio.Event) -> None:
        left_s = delay_s
        while left_s > 0 and not stop.is_set():
            slice_s = min(left_s, self._settings.poll_seconds_max)
            self._consumer.pause(tuple(self._consumer.assignment()))
            self._paused_all = True
            self._kept.extend(await self._poll(self._settings.batch_records_max, slice_s))
            left_s -= slice_s

    async def _poll(self, records_max: int, wait_s: float) -> list[Record]:
        work = self._work
        waited_s = 0.0
        for attempt in count(1):
            self._tell_progress()
            try:
                return list(await self._consumer.poll(records_max, wait_s))
            except Retryable as error:
                policy = self._settings.retry
                if policy.exhausted(attempt, waited_s):
                    raise Fatal(f"{work.stage}: the source could not be read") from error
                delay_s = policy.delay_s(attempt, work.environment.jitter())
                log.warning("poll_failed", stage=work.stage, attempt=attempt, delay_s=delay_s, error=explain(error))
                await work.environment.sleep(delay_s)
                waited_s += delay_s
        raise AssertionError  # pragma: no cover - count() has no end

    def _tell_progress(self) -> None:
        work = self._work
        work.metrics.gauge("turnstream_loop_progress_timestamp_seconds", work.environment.unix_s(), stage=work.stage)
        work.metrics.gauge("turnstream_assigned_partitions", len(self._consumer.assignment()), stage=work.stage)

    def _forget(self, lost: frozenset[TopicPartition]) -> None:
        self._lost |= lost
        self._kept = [record for record in self._kept if record.source not in lost]
