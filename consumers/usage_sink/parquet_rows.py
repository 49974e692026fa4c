"""The rows of a usage file: names, types and the version of their schema."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final

import pyarrow as pa
from pyarrow import parquet

from consumers.usage_sink.core import Line, UsageFile

SCHEMA_VERSION: Final = "usage/1"
COMPRESSION: Final = "zstd"
_TIME: Final = pa.timestamp("ms", tz="UTC")
# New columns go to the end and may be null; a column keeps its name, type and meaning for as long as the version.
# `date` and `region` are columns too: they are in the path.
SCHEMA: Final = pa.schema(
    [
        pa.field("turn_id", pa.string(), nullable=False),
        pa.field("tenant_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("key_id", pa.string(), nullable=False),
        pa.field("plan", pa.string(), nullable=False),
        pa.field("conversation_id", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("pool", pa.string(), nullable=False),
        pa.field("input_tokens", pa.int64(), nullable=False),
        pa.field("cached_tokens", pa.int64(), nullable=False),
        pa.field("output_tokens", pa.int64(), nullable=False),
        pa.field("cost_nano_usd", pa.int64(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("decision", pa.string(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("ttft_ms", pa.int64()),
        pa.field("duration_ms", pa.int64(), nullable=False),
        pa.field("submitted_at", _TIME, nullable=False),
        pa.field("recorded_at", _TIME, nullable=False),
        pa.field("origin", pa.string()),
        pa.field("log_partition", pa.int32(), nullable=False),
        pa.field("log_offset", pa.int64(), nullable=False),
    ]
)


def parquet_bytes(file: UsageFile) -> bytes:
    """The whole file; its metadata tells the version of the schema and what it covers of the log."""
    partition, span = file.partition, file.span
    metadata = {
        "turnstream.schema": SCHEMA_VERSION,
        "turnstream.source": f"{partition.topic}/{partition.partition}/{span.first}-{span.last}",
    }
    rows = _rows(file.lines, partition.partition)
    table = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata(metadata))
    buffer = BytesIO()
    parquet.write_table(table, buffer, compression=COMPRESSION)
    return buffer.getvalue()


def _rows(lines: Sequence[Line], partition: int) -> list[dict[str, Any]]:
    return [
        {
            "turn_id": event.turn_id,
            "tenant_id": event.tenant_id,
            "user_id": event.user_id,
            "key_id": event.key_id,
            "plan": event.plan,
            "conversation_id": event.conversation_id,
            "model": event.model,
            "pool": event.pool,
            "input_tokens": event.usage.prompt_tokens,
            "cached_tokens": event.usage.cached_tokens,
            "output_tokens": event.usage.completion_tokens,
            "cost_nano_usd": event.cost_nano_usd,
            "finish_reason": event.finish_reason.value,
            "decision": event.decision.value,
            "attempt": event.attempt,
            "ttft_ms": event.ttft_ms,
            "duration_ms": event.duration_ms,
            "submitted_at": event.submitted_at_ms,
            "recorded_at": event.recorded_at_ms,
            "origin": event.origin,
            "log_partition": partition,
            "log_offset": offset,
        }
        for offset, event in lines
    ]
