"""The port ``GroupConsumer`` on Kafka."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Final, Self

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition as AiokafkaPartition

from schemas.errors import Fatal
from schemas.ports import Record, TopicPartition
from turnstream.log.kafka_failures import kafka_failures, startup_failures
from turnstream.log.kafka_records import to_records
from turnstream.log.settings import KafkaSettings

log = structlog.get_logger()

# aiokafka's own wait ends first unless a rebalance holds it up.
_REBALANCE_GRACE_S: Final = 0.05
_JOIN_MARGIN_MS: Final = 5_000
# JoinGroupRequest.UNKNOWN_MEMBER_ID: whom the group does not know (any more).
_NO_MEMBER: Final = ""


class Haste(Enum):
    """When the broker gives out a record that has come: many together cost less.

    ``SOON`` is at once after a pause, and within ``gathered_fetch_wait_ms_max`` while records come; ``LAZY`` is within
    ``fetch_wait_ms_max``, for records that nobody waits for.
    """

    AT_ONCE = auto()
    SOON = auto()
    LAZY = auto()


class KafkaGroupConsumer:
    """A member of ``group`` on ``topics``: manual commits, ``earliest``, sticky assignment.

    The rebalance protocol is eager, but a partition that this member gets back is not treated as revoked: reading
    goes on where ``poll`` left off, a pause stays, and ``on_revoked`` tells only what is really gone, as soon as
    the new assignment is known. Otherwise every member that comes or goes would abort all work in flight.
    A member that was expelled (it stood still for a session) loses everything as soon as it learns of it, even what
    it gets back: others had it meanwhile, so work goes on from what they committed.
    With ``instance_id`` the membership is static (KIP-345): closing does not leave the group, and whoever comes back
    with the id within a session gets its partitions at once, without a rebalance.
    Use as ``async with KafkaGroupConsumer(settings, group, topics) as consumer``.
    """

    def __init__(
        self, settings: KafkaSettings, group: str, topics: Sequence[str], *, haste: Haste = Haste.AT_ONCE
    ) -> None:
        self._settings = settings
        self._group = group
        self._topics = tuple(topics)
        self._haste = haste
        self._held: frozenset[TopicPartition] = frozenset()
        self._positions: dict[TopicPartition, int] = {}
        self._read_ms: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._callbacks: list[Callable[[frozenset[TopicPartition]], None]] = []
        self._member_id = _NO_MEMBER
        self._expelled_s: deque[float] = deque(maxlen=settings.expulsions_max)
        self._kafka = self._client()

    def _client(self) -> Any:
        settings = self._settings
        # aiokafka keeps the previous assignment on the class, which two groups in one process would share.
        assignor = type("MemberAssignor", (StickyPartitionAssignor,), {})
        return AIOKafkaConsumer(
            bootstrap_servers=settings.bootstrap_servers,
            client_id=settings.client_id,
            group_id=self._group,
            group_instance_id=_static_id(self._group, settings.instance_id),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(assignor,),
            # A join is answered when all members have joined, at most a session later.
            request_timeout_ms=settings.session_ms_max + _JOIN_MARGIN_MS,
            session_timeout_ms=settings.session_ms_max,
            heartbeat_interval_ms=settings.heartbeat_ms,
            max_poll_interval_ms=settings.poll_interval_ms_max,
            fetch_min_bytes=settings.lazy_fetch_bytes_min if self._haste is Haste.LAZY else 1,
            fetch_max_wait_ms=settings.fetch_wait_ms_max,
            fetch_max_bytes=settings.fetch_bytes_max,
            max_partition_fetch_bytes=settings.fetch_partition_bytes_max,
        )

    async def __aenter__(self) -> Self:
        """Join the group. Raises Retryable after ``start_seconds_max``, Fatal when a topic does not exist."""
        joined = False
        try:
            with startup_failures(f"join group {self._group}"):
                async with asyncio.timeout(self._settings.start_seconds_max):
                    self._kafka.subscribe(self._topics, listener=_Listener(self._revoked, self._assigned))
                    await self._kafka.start()
            joined = True
        finally:
            if not joined:
                await self._close()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Leave the group, so that others need not wait for the session to expire; a static member only stops."""
        await self._close()

    async def poll(self, records_max: int, wait_s: float) -> Sequence[Record]:
        """Up to ``records_max`` records, in order per partition; empty after ``wait_s`` seconds without any.

        Raises Retryable when the broker fails, Fatal when access is denied, when this member is expelled again and
        again, or when aiokafka's coordination of the group has ended: only a fresh process can join then.
        """
        self._check_rivals()
        with kafka_failures(f"poll as {self._group}"):
            try:
                async with asyncio.timeout(wait_s + _REBALANCE_GRACE_S):
                    fetched = await self._kafka.getmany(timeout_ms=wait_s * 1000, max_records=records_max)
            except TimeoutError:
                # A rebalance is going on: aiokafka would wait for its end, however long.
                return ()
            except KafkaError as error:
                if type(error) is KafkaError:
                    # What aiokafka does not know, such as FENCED_INSTANCE_ID, or an end of its coordination.
                    raise Fatal(f"poll as {self._group}: the membership is broken") from error
                raise
        if self._haste is Haste.SOON:
            self._gather(coming=bool(fetched))
        for theirs, found in fetched.items():
            ours = _ours(theirs)
            self._positions[ours] = found[-1].offset + 1
            self._read_ms[ours] = found[-1].timestamp
        return to_records(fetched.values())

    def _gather(self, *, coming: bool) -> None:
        # aiokafka reads these for each fetch, but has no setter.
        settings, fetcher = self._settings, self._kafka._fetcher  # noqa: SLF001
        fetcher._fetch_min_bytes = settings.lazy_fetch_bytes_min if coming else 1  # noqa: SLF001
        fetcher._fetch_max_wait_ms = settings.gathered_fetch_wait_ms_max if coming else settings.fetch_wait_ms_max  # noqa: SLF001

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit the next offset to read per partition. Raises Retryable after a rebalance or a deadline."""
        with kafka_failures(f"commit as {self._group}"):
            async with asyncio.timeout(self._settings.commit_seconds_max):
                await self._kafka.commit({_theirs(partition): offset for partition, offset in positions.items()})

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Deliver no more of these until resumed; heartbeats go on."""
        self._paused.update(partitions)
        self._kafka.pause(*self._assigned_among(partitions))

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Deliver these again."""
        self._paused.difference_update(partitions)
        self._kafka.resume(*self._assigned_among(partitions))

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions of this member; during a rebalance those that it held before."""
        return self._held

    def lag_records(self) -> int:
        """Records that the broker has, by its last answer, beyond those that ``poll`` gave out."""
        return sum(self._left(partition) for partition in self._held)

    def lag_seconds(self, unix_s: float) -> float:
        """How old the newest record is that ``poll`` gave out, on the oldest partition with more; 0 without any."""
        behind = [self._read_ms[one] / 1000 for one in self._held if one in self._read_ms and self._left(one)]
        return max(0.0, unix_s - min(behind)) if behind else 0.0

    def _left(self, partition: TopicPartition) -> int:
        position, theirs = self._positions.get(partition), _theirs(partition)
        # Before the first record nothing is known; during a rebalance aiokafka knows no end.
        if position is None or theirs not in self._kafka.assignment():
            return 0
        end = self._kafka.highwater(theirs)
        return 0 if end is None else max(0, int(end) - position)

    def on_revoked(self, callback: Callable[[frozenset[TopicPartition]], None]) -> None:
        """Call ``callback`` with the partitions that a rebalance took away."""
        self._callbacks.append(callback)

    def _assigned_among(self, partitions: Sequence[TopicPartition]) -> list[Any]:
        assigned = self._kafka.assignment()
        return [ours for ours in map(_theirs, partitions) if ours in assigned]

    def _revoked(self) -> None:
        # The eager protocol revokes all at every rebalance, and most of it comes back.
        if self._joined_as() == _NO_MEMBER:
            self._expelled()

    def _assigned(self, now_held: frozenset[TopicPartition]) -> None:
        if self._joined_as() != self._member_id:
            self._expelled()
            self._member_id = self._joined_as()
        lost = self._held - now_held
        for partition in self._held & now_held:
            self._keep(partition)
        self._held = now_held
        log.info("partitions_assigned", group=self._group, held=len(now_held), lost=len(lost))
        self._lose(lost)

    def _expelled(self) -> None:
        if self._member_id == _NO_MEMBER:
            return
        self._member_id = _NO_MEMBER
        self._expelled_s.append(time.monotonic())
        lost, self._held = self._held, frozenset()
        log.warning("member_expelled", group=self._group, lost=len(lost))
        self._lose(lost)

    def _lose(self, lost: frozenset[TopicPartition]) -> None:
        for partition in lost:
            self._positions.pop(partition, None)
            self._read_ms.pop(partition, None)
            self._paused.discard(partition)
        if lost:
            for callback in self._callbacks:
                callback(lost)

    def _check_rivals(self) -> None:
        times = self._expelled_s
        if len(times) == times.maxlen and times[-1] - times[0] < self._settings.expulsions_seconds:
            raise Fatal(f"{self._group}: expelled again and again; has another process the same instance_id?")

    def _joined_as(self) -> str:
        # aiokafka does not tell otherwise whether a new assignment continues the membership.
        return str(self._kafka._coordinator.member_id)  # noqa: SLF001

    def _keep(self, partition: TopicPartition) -> None:
        theirs = _theirs(partition)
        if partition in self._positions:
            self._kafka.seek(theirs, self._positions[partition])
        if partition in self._paused:
            self._kafka.pause(theirs)

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(self._settings.close_seconds_max):
                await self._kafka.stop()
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("consumer_close_incomplete", group=self._group, error=type(error).__name__)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    def __init__(self, revoked: Callable[[], None], assigned: Callable[[frozenset[TopicPartition]], None]) -> None:
        self._revoked = revoked
        self._assigned = assigned

    def on_partitions_revoked(self, _revoked: object) -> None:
        """Tell the consumer that a rebalance begins."""
        self._revoked()

    def on_partitions_assigned(self, assigned: Sequence[Any]) -> None:
        """Tell the consumer what it holds now."""
        self._assigned(frozenset(map(_ours, assigned)))


def _static_id(group: str, instance_id: str | None) -> str | None:
    return None if instance_id is None else f"{group}.{instance_id}"


def _ours(partition: Any) -> TopicPartition:
    return TopicPartition(partition.topic, partition.partition)


def _theirs(partition: TopicPartition) -> Any:
    return AiokafkaPartition(*partition)
