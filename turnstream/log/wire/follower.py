"""Reading on and on: partitions that are followed, each from a position that moves with what it gives."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, KeysView, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from aiokafka.errors import KafkaError, NoError, OffsetOutOfRangeError, for_code

from schemas.ports import TopicPartition
from turnstream.log.ranges import Entry, Span
from turnstream.log.wire.batches import decode_records
from turnstream.log.wire.cluster import RETRY_S, Cluster
from turnstream.log.wire.connection import Api, BrokerConnection
from turnstream.log.wire.fetch import FetchedBatches, FetchLimits, fetch_request, read_fetch_answer

# After an answer that says "not now".
_BACKOFF_S: Final = 0.05
_NO_END: Final = 2**63 - 1

# The oldest offset that retention left, of each partition. Raises KafkaError.
Earliest = Callable[[Sequence[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]]


@dataclass(slots=True, eq=False)
class _Followed:
    """``asked`` lies behind what has come, ``given`` behind what was given out."""

    given: int
    asked: int
    entries: list[Entry] = field(default_factory=list)
    high_watermark: int | None = None
    paused: bool = False
    expired: bool = False


class Follower:
    """Long polls, one of a broker at a time, asked for when nothing is left to give out.

    So a reader that is busy gets all that came meanwhile at once, and one that waits gets a record one turn of the
    event loop after the broker's answer. ``limits`` is asked before each poll. Where retention has overtaken a
    position, reading goes on with the oldest record that is left: ``earliest`` says where that lies.
    """

    def __init__(self, cluster: Cluster, limits: Callable[[], FetchLimits], earliest: Earliest) -> None:
        self._cluster = cluster
        self._limits = limits
        self._earliest = earliest
        self._followed: dict[TopicPartition, _Followed] = {}
        self._asked: set[BrokerConnection] = set()
        self._error: KafkaError | None = None
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None

    @property
    def partitions(self) -> KeysView[TopicPartition]:
        """What is followed."""
        return self._followed.keys()

    def follow(self, positions: Mapping[TopicPartition, int]) -> None:
        """Follow these too, each from its offset on; those that are followed already begin again there."""
        for partition, position in positions.items():
            self._followed[partition] = _Followed(position, position)
        self._ask_afresh()

    def unfollow(self, partitions: Iterable[TopicPartition]) -> None:
        """Give out nothing more of these."""
        for partition in partitions:
            self._followed.pop(partition, None)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Give out nothing more of these until they are resumed."""
        for partition in partitions:
            self._followed[partition].paused = True

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Give these out again. One that was not asked for meanwhile takes part in the next poll."""
        for partition in partitions:
            self._followed[partition].paused = False
        self._wake()

    def position(self, partition: TopicPartition) -> int:
        """The offset behind what was given out. KeyError for one that is not followed."""
        return self._followed[partition].given

    def high_watermark(self, partition: TopicPartition) -> int | None:
        """The end of ``partition`` by its last answer."""
        followed = self._followed.get(partition)
        return None if followed is None else followed.high_watermark

    async def next_entries(self, records_max: int, wait_s: float) -> Mapping[TopicPartition, Sequence[Entry]]:
        """Up to ``records_max`` records, in order per partition; none after ``wait_s``.

        Raises KafkaError when a broker refuses for good; nothing that came is lost by that.
        """
        deadline_s = self._loop.time() + wait_s
        while not (found := self._give(records_max)):
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            await self._skip_expired(deadline_s)
            useful_s = self._ask()
            left_s = deadline_s - self._loop.time()
            if left_s <= 0:
                break
            await self._wait(min(left_s, useful_s))
        return found

    async def _skip_expired(self, deadline_s: float) -> None:
        # Only while there is nothing to give out: what was given out would be lost with a failure here.
        expired = [partition for partition, followed in self._followed.items() if followed.expired]
        if expired:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline_s):
                    self.follow(await self._earliest(expired))

    def _give(self, records_max: int) -> dict[TopicPartition, Sequence[Entry]]:
        found: dict[TopicPartition, Sequence[Entry]] = {}
        room = records_max
        for partition, followed in self._followed.items():
            if room and followed.entries and not followed.paused:
                given = found[partition] = followed.entries[:room]
                followed.entries = followed.entries[room:]
                followed.given = given[-1].offset + 1 if followed.entries else followed.asked
                room -= len(given)
        for partition in found:
            # Whoever was given has to wait for all others before it is given again.
            self._followed[partition] = self._followed.pop(partition)
        return found

    async def _wait(self, seconds: float) -> None:
        self._waiter = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _ask(self) -> float:
        """Begin a long poll at every broker that has none, for all that may be given out and is not there.

        Returns after how many seconds it is worth another try.
        """
        wanted: dict[int | None, dict[TopicPartition, _Followed]] = defaultdict(dict)
        for partition, followed in self._followed.items():
            if not (followed.paused or followed.entries or followed.expired):
                wanted[self._cluster.leader(partition)][partition] = followed
        useful_s = math.inf
        for broker, partitions in wanted.items():
            connection = None if broker is None else self._cluster.connection(broker)
            if connection is None:
                useful_s = RETRY_S
            elif connection not in self._asked:
                self._asked.add(connection)
                offsets = {partition: followed.asked for partition, followed in partitions.items()}
                body = fetch_request(offsets, self._limits())
                connection.send(Api.FETCH, body, partial(self._answered, connection, partitions))
        return useful_s

    def _ask_afresh(self) -> None:
        """End the polls that wait without what is followed now: the broker would keep them until something comes."""
        for connection in tuple(self._asked):
            connection.close()
        self._wake()

    def _answered(
        self, connection: BrokerConnection, partitions: Mapping[TopicPartition, _Followed], body: bytes | None
    ) -> None:
        taken = [self._take(partitions[one.partition], one) for one in read_fetch_answer(body)] if body else ()
        if all(taken):
            self._ready_again(connection)
        else:
            self._cluster.refresh()
            self._loop.call_later(_BACKOFF_S, self._ready_again, connection)

    def _ready_again(self, connection: BrokerConnection) -> None:
        self._asked.discard(connection)
        self._wake()

    def _take(self, followed: _Followed, result: FetchedBatches) -> bool:
        """Keep what came; whether the broker may be asked again at once."""
        if self._followed.get(result.partition) is not followed:
            return True
        if result.error_code == NoError.errno:
            followed.high_watermark = result.high_watermark
            return not result.batches or self._keep(followed, result.batches)
        error: Any = for_code(result.error_code)
        if error is OffsetOutOfRangeError:
            followed.expired = True
            return True
        if not error.retriable:
            self._error = error(result.partition.topic)
        return False

    def _keep(self, followed: _Followed, batches: bytes) -> bool:
        try:
            fetched = decode_records(Span(followed.asked, _NO_END), batches)
        except KafkaError as error:
            self._error = error
            return False
        followed.entries += fetched.entries
        followed.asked = fetched.next_offset
        if not followed.entries:
            followed.given = followed.asked
        return True
