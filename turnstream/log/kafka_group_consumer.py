"""The port ``GroupConsumer`` on Kafka."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import TopicPartition as AiokafkaPartition

from schemas.errors import Fatal
from schemas.ports import Record, TopicPartition
from turnstream.log.haste import Haste, limits_of
from turnstream.log.kafka_failures import kafka_failures, startup_failures
from turnstream.log.kafka_records import records_of
from turnstream.log.kafka_wire import KafkaWire
from turnstream.log.settings import KafkaSettings
from turnstream.log.wire.follower import Follower

log = structlog.get_logger()

# aiokafka's own wait ends first unless a rebalance holds it up.
_REBALANCE_GRACE_S: Final = 0.05
_JOIN_MARGIN_MS: Final = 5_000
# Between two looks at what aiokafka has to say; far less than any limit on them.
_TEND_S: Final = 0.5
# JoinGroupRequest.UNKNOWN_MEMBER_ID: whom the group does not know (any more).
_NO_MEMBER: Final = ""


class KafkaGroupConsumer:
    """A member of ``group`` on ``topics``: manual commits, ``earliest``, sticky assignment.

    aiokafka keeps the membership, the commits and the places where a partition begins; the records come through a
    ``Follower``, so aiokafka's own fetching is paused for good.
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
        self._held: frozenset[TopicPartition] = frozenset()
        self._rebalancing = False
        self._tend_after_s = 0.0
        self._read_ms: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._callbacks: list[Callable[[frozenset[TopicPartition]], None]] = []
        self._member_id = _NO_MEMBER
        self._expelled_s: deque[float] = deque(maxlen=settings.expulsions_max)
        self._kafka = self._client()
        self._wire = KafkaWire(settings)
        self._coming = False
        self._follower = Follower(
            self._wire.cluster, lambda: limits_of(haste, settings, coming=self._coming), self._wire.earliest
        )

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
        )

    async def __aenter__(self) -> Self:
        """Join the group. Raises Retryable after ``start_seconds_max``, Fatal when a topic does not exist."""
        joined = False
        try:
            with startup_failures(f"join group {self._group}"):
                async with asyncio.timeout(self._settings.start_seconds_max):
                    await self._wire.connect()
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
            if self._wants_tending() and not await self._tended(wait_s):
                # Whoever polls in a loop has to let the rebalance go on.
                await asyncio.sleep(_REBALANCE_GRACE_S)
                return []
            found = await self._follower.next_entries(records_max, wait_s)
        self._coming = bool(found)
        records: list[Record] = []
        for partition, entries in found.items():
            records += records_of(partition, entries)
            self._read_ms[partition] = records[-1].timestamp_ms
        return records

    def _wants_tending(self) -> bool:
        unplaced = len(self._held) > len(self._follower.partitions)
        return self._rebalancing or unplaced or time.monotonic() >= self._tend_after_s

    async def _tended(self, wait_s: float) -> bool:
        """Hear of what ended the membership, and go on where new partitions begin; False while a rebalance goes on."""
        try:
            async with asyncio.timeout(wait_s + _REBALANCE_GRACE_S):
                # Also tells aiokafka that this member is alive.
                await self._kafka.getmany(timeout_ms=0)
                for partition in self._held.difference(self._follower.partitions):
                    await self._place(partition)
        except (TimeoutError, IllegalStateError):
            # A rebalance is going on: aiokafka would wait for its end, however long, or has taken a partition away.
            return False
        except KafkaError as error:
            if type(error) is KafkaError:
                # What aiokafka does not know, such as FENCED_INSTANCE_ID, or an end of its coordination.
                raise Fatal(f"poll as {self._group}: the membership is broken") from error
            raise
        self._tend_after_s = time.monotonic() + _TEND_S
        return not self._rebalancing

    async def _place(self, partition: TopicPartition) -> None:
        position = await self._kafka.position(_theirs(partition))
        if partition in self._held:
            self._follower.follow({partition: position})
            if partition in self._paused:
                self._follower.pause((partition,))

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit the next offset to read per partition. Raises Retryable after a rebalance or a deadline."""
        with kafka_failures(f"commit as {self._group}"):
            async with asyncio.timeout(self._settings.commit_seconds_max):
                await self._kafka.commit({_theirs(partition): offset for partition, offset in positions.items()})

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Deliver no more of these until resumed; heartbeats go on."""
        self._paused.update(partitions)
        self._follower.pause(self._followed_among(partitions))

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Deliver these again."""
        self._paused.difference_update(partitions)
        self._follower.resume(self._followed_among(partitions))

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
        end = self._follower.high_watermark(partition)
        # Before the first answer nothing is known.
        return 0 if end is None else max(0, end - self._follower.position(partition))

    def on_revoked(self, callback: Callable[[frozenset[TopicPartition]], None]) -> None:
        """Call ``callback`` with the partitions that a rebalance took away."""
        self._callbacks.append(callback)

    def _followed_among(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        followed = self._follower.partitions
        return [partition for partition in partitions if partition in followed]

    def _revoked(self) -> None:
        # The eager protocol revokes all at every rebalance, and most of it comes back.
        self._rebalancing = True
        if self._joined_as() == _NO_MEMBER:
            self._expelled()

    def _assigned(self, now_held: frozenset[TopicPartition]) -> None:
        self._kafka.pause(*map(_theirs, now_held))
        self._rebalancing = False
        if self._joined_as() != self._member_id:
            self._expelled()
            self._member_id = self._joined_as()
        lost = self._held - now_held
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
        self._follower.unfollow(lost)
        for partition in lost:
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

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(self._settings.close_seconds_max):
                await self._kafka.stop()
                await self._wire.close()
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
