"""Record batches as brokers keep them (https://kafka.apache.org/documentation/#recordbatch), read by aiokafka."""

from dataclasses import dataclass

from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords

from turnstream.log.ranges import Entry, Span


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one fetch brought of a partition: aiokafka's records, and from where to read on."""

    entries: tuple[Entry, ...]
    next_offset: int
    out_of_range: bool = False


def decode_records(span: Span, data: bytes) -> Fetched:
    """The records of a fetch's answer from the start of ``span`` on, without control batches.

    Reading ends with the batch that reaches the end of ``span``: the broker sends more than is wanted, and the last
    batch may be cut off. ``next_offset`` lies behind the last batch, also where compaction left none of its records.
    Raises CorruptRecordException.
    """
    entries: list[Entry] = []
    position = span.start
    batches = MemoryRecords(data)
    while position < span.stop and batches.has_next():
        batch = batches.next_batch()
        if not batch.validate_crc():
            raise CorruptRecordException
        if not batch.is_control_batch:
            # A batch is fetched whole, though its first records may lie before what was asked for.
            entries += [entry for entry in batch if entry.offset >= span.start]
        position = max(position, batch.next_offset)
    return Fetched(tuple(entries), position)
