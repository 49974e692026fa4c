"""Reads the audit topic."""

from collections.abc import AsyncIterator
from typing import Final

from schemas import serde
from schemas.errors import Malformed
from schemas.operations import OperatorActed
from schemas.ports import LogReader, Record, TopicPartition
from schemas.topics import OPERATIONS_AUDIT

AUDIT_PARTITION: Final = TopicPartition(OPERATIONS_AUDIT.name, 0)
CHUNK_RECORDS: Final = 2_000


async def read_since(
    reader: LogReader, partition: TopicPartition, since_ms: int, chunk_records: int = CHUNK_RECORDS
) -> AsyncIterator[Record]:
    """The records of ``partition`` that are not older than ``since_ms``, up to its present end. Raises Retryable."""
    position = (await reader.offsets_at((partition,), since_ms))[partition]
    end = (await reader.end_offsets((partition,)))[partition]
    while position < end:
        stop = min(position + chunk_records, end)
        for record in await reader.read_range(partition, position, stop):
            yield record
        position = stop


async def read_actions(reader: LogReader, since_ms: int = 0) -> list[OperatorActed]:
    """The actions since ``since_ms`` (Unix milliseconds), in log order, without what nobody can read.

    Raises Retryable.
    """
    actions: list[OperatorActed] = []
    async for record in read_since(reader, AUDIT_PARTITION, since_ms):
        try:
            serde.check_schema(OPERATIONS_AUDIT, record.headers)
            actions.append(serde.decode(OPERATIONS_AUDIT, record.value))
        except Malformed:
            continue
    return actions
