"""Records on their way to the log: batches, and the partitions that they wait for."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from schemas.ports import OnLanded, Outgoing, TopicPartition
from turnstream.log.wire.cluster import ProducerId

_MAGIC: Final = 2
_CODECS: Final[Mapping[str | None, int]] = {None: 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
_NO_TRANSACTION: Final = 0


class Batch:
    """Records of one partition that leave together."""

    def __init__(self, builder: Any, opened_s: float) -> None:
        self._builder = builder
        self.opened_s: Final = opened_s
        self.records = 0
        self.sealed = b""
        # Of its first record, once it is on the log; None also when nobody knows whether it is there.
        self.base_offset: int | None = None
        self._landings: list[Landing] = []

    def put(self, record: Outgoing, now_ms: int) -> bool:
        """Whether ``record`` still had room; the first one always has."""
        timestamp_ms = now_ms if record.timestamp_ms is None else record.timestamp_ms
        headers = list(record.headers)
        if self._builder.append(self.records, timestamp_ms, record.key, record.value, headers) is None:
            return False
        self.records += 1
        return True

    def seal(self, producer: ProducerId, sequence: int) -> None:
        """Make the bytes that are sent, and sent again: by their sequence the broker knows them."""
        self._builder.set_producer_state(*producer, sequence)
        self.sealed = bytes(self._builder.build())
        self._builder = None

    def tell(self, landing: "Landing") -> None:
        """Let ``landing`` know when it is finished."""
        self._landings.append(landing)

    def finish(self, base_offset: int | None) -> None:
        """Tell all who wait."""
        self.base_offset = base_offset
        # Taken out first: a batch and its landings, which know each other, would be left to the garbage collector.
        landings, self._landings = self._landings, []
        for landing in landings:
            landing.one_finished()


# Where a record went: its offset is the batch's base offset plus the number.
Place = tuple[Batch, int]


class Landing:
    """Records of one append on their way, in one batch or in several."""

    __slots__ = ("_batches_left", "_on_landed", "_places")

    def __init__(self, places: Sequence[Place], on_landed: OnLanded) -> None:
        self._places = places
        self._on_landed = on_landed
        batches = {batch for batch, _ in places}
        self._batches_left = len(batches)
        for batch in batches:
            batch.tell(self)

    def one_finished(self) -> None:
        """Tell whoever appended, once all batches are finished."""
        self._batches_left -= 1
        if self._batches_left:
            return
        offsets: list[int] = []
        for batch, nth in self._places:
            if batch.base_offset is None:
                self._on_landed(None)
                return
            offsets.append(batch.base_offset + nth)
        self._on_landed(offsets)


class Lane:
    """One partition: batches that wait, and the one that is on its way. Its sequence numbers follow that order."""

    def __init__(self, partition: TopicPartition, compression: str | None, batch_bytes_max: int) -> None:
        self.partition: Final = partition
        self.waiting: deque[Batch] = deque()
        self.sending: Batch | None = None
        self.records_total = 0
        self._sequence = 0
        self._codec = _CODECS[compression]
        self._batch_bytes_max = batch_bytes_max

    @property
    def idle(self) -> bool:
        """Whether it has nothing to send: the next batch has to be announced."""
        return self.sending is None and not self.waiting

    @property
    def oldest_s(self) -> float:
        """When the oldest of its batches was opened, on the loop's clock; infinite without one."""
        oldest = self.sending or (self.waiting[0] if self.waiting else None)
        return math.inf if oldest is None else oldest.opened_s

    def add(self, record: Outgoing, now_ms: int, now_s: float) -> Place:
        """Queue ``record`` behind what waits already."""
        self.records_total += 1
        batch = self.waiting[-1] if self.waiting else self._opened(now_s)
        if not batch.put(record, now_ms):
            batch = self._opened(now_s)
            batch.put(record, now_ms)
        return batch, batch.records - 1

    def _opened(self, now_s: float) -> Batch:
        batch = Batch(self._builder(), now_s)
        self.waiting.append(batch)
        return batch

    def depart(self, producer: ProducerId) -> Batch:
        """The batch that is on its way, or the next one that waits, from now on on its way."""
        if self.sending is None:
            self.sending = self.waiting.popleft()
            self.sending.seal(producer, self._sequence)
            self._sequence += self.sending.records
        return self.sending

    def _builder(self) -> Any:
        return DefaultRecordBatchBuilder(
            magic=_MAGIC,
            compression_type=self._codec,
            is_transactional=_NO_TRANSACTION,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=-1,
            batch_size=self._batch_bytes_max,
        )
