"""The port ``Producer`` on Kafka."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Self

import structlog
from aiokafka.errors import KafkaError

from schemas.errors import Malformed, OutcomeUnknown
from schemas.ports import OnLanded, Outgoing
from turnstream.clocks import now_ms
from turnstream.log.background import Background
from turnstream.log.kafka_failures import startup_failures
from turnstream.log.producer_session import ProducerSession
from turnstream.log.record_size import check_size
from turnstream.log.settings import KafkaSettings

log = structlog.get_logger()


class KafkaProducer:
    """Appends with acks=all and idempotence; safe for any number of concurrent appends.

    After a failed batch, and well before sequence numbers wrap, the session underneath is replaced, so
    one failure is one ``OutcomeUnknown`` for the appends that were on their way and nothing afterwards.
    Use as ``async with KafkaProducer(settings) as producer``.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._background = Background()
        self._replacing: asyncio.Task[None] | None = None
        self._session = ProducerSession(settings)
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect. Raises Retryable when the broker cannot be reached within ``start_seconds_max``."""
        with startup_failures(f"connect to the broker at {self._settings.bootstrap_servers}"):
            await self._session.start()
        await self._background.open()
        self._running = self._background.start(self._session.watch())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Flush and disconnect, within ``close_seconds_max`` each."""
        try:
            await self._session.close()
        finally:
            await self._background.close()

    async def append(self, records: Sequence[Outgoing]) -> Sequence[int]:
        """Offsets of ``records`` in their order, once all are acknowledged by all in-sync replicas.

        Records of one partition keep their order. Raises RecordTooLarge (or Malformed for a partition that does
        not exist) before anything is sent; OutcomeUnknown after ``append_seconds_max`` or a failure.
        """
        if not records:
            return []
        for record in records:
            check_size(record)
        session = self._session
        if not session.takes(records):
            session = await self._prepared(records)
        landed: asyncio.Future[Sequence[int] | None] = asyncio.get_running_loop().create_future()
        session.add(records, now_ms(), partial(_tell, landed))
        offsets = await landed
        if offsets is None:
            raise OutcomeUnknown("a batch failed on its way to the broker, or took too long")
        return offsets

    def post(self, records: Sequence[Outgoing], on_landed: OnLanded) -> None:
        """See ``PostingProducer.post``."""
        for record in records:
            check_size(record)
        if self._session.takes(records):
            self._session.add(records, now_ms(), on_landed)
        else:
            self._background.start(self._append_later(records, on_landed))

    async def _append_later(self, records: Sequence[Outgoing], on_landed: OnLanded) -> None:
        offsets: Sequence[int] | None = None
        # A partition that does not exist shows to the next append too, which can say so.
        with suppress(OutcomeUnknown, Malformed):
            offsets = await self.append(records)
        on_landed(offsets)

    async def _prepared(self, records: Sequence[Outgoing]) -> ProducerSession:
        try:
            async with asyncio.timeout(self._settings.append_seconds_max):
                session = await self._usable_session(len(records))
                for topic in {record.topic for record in records}:
                    await session.learn_partitions(topic)
        except TimeoutError as error:
            raise OutcomeUnknown("the broker did not answer in time; nothing was sent") from error
        except (KafkaError, OSError) as error:
            raise OutcomeUnknown(f"the append failed: {type(error).__name__}") from error
        return session

    async def _usable_session(self, records: int) -> ProducerSession:
        if not self._session.usable:
            # Shielded from this append's deadline: a start that is cancelled half-way leaves a connection open.
            if self._replacing is None or self._replacing.done():
                self._replacing = self._background.start(self._replace())
            await asyncio.shield(self._replacing)
        if not self._session.usable:
            raise OutcomeUnknown("the broker cannot be reached; nothing was sent")
        if self._session.pending + records > self._settings.records_pending_max:
            raise OutcomeUnknown("too many records wait for the broker; nothing was sent")
        return self._session

    async def _replace(self) -> None:
        fresh = ProducerSession(self._settings)
        try:
            await fresh.start()
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("producer_not_replaced", error=type(error).__name__)
            return
        old, old_running = self._session, self._running
        self._session = fresh
        self._running = self._background.start(fresh.watch())
        log.info("producer_replaced", failed=old.failed, exhausted=old.exhausted)
        self._background.start_bounded(_retire(old, old_running))


def _tell(landed: "asyncio.Future[Sequence[int] | None]", offsets: Sequence[int] | None) -> None:
    # Whoever waited may be cancelled.
    if not landed.done():
        landed.set_result(offsets)


async def _retire(session: ProducerSession, running: "asyncio.Task[None] | None") -> None:
    try:
        await session.close()
    finally:
        if running is not None:
            running.cancel()
