"""Usage events, and what lies in a folder of usage files."""

import json
from pathlib import Path
from typing import Any

from pyarrow import parquet

from schemas import serde
from schemas.events import FinishReason, Usage, UsageRecorded
from schemas.ports import Record
from schemas.topics import USAGE_EVENTS
from tests.support.memory_log import MemoryLog
from tests.support.turn_events import NOW_MS, conversation_id, turn_id


def usage_event(number: int = 1, *, at_ms: int = NOW_MS, **changes: object) -> UsageRecorded:
    """The bill of turn ``number``: ``number`` tokens in and twice as many out, at 100 and 400 billionths a token."""
    values: dict[str, Any] = {
        "turn_id": turn_id(number),
        "conversation_id": conversation_id(number),
        "tenant_id": "acme",
        "user_id": f"user-{number % 3}",
        "key_id": "k1",
        "plan": "pro",
        "model": "turnstream-fast",
        "pool": "fast",
        "usage": Usage(prompt_tokens=number, completion_tokens=2 * number),
        "finish_reason": FinishReason.STOP,
        "cost_nano_usd": number * 900,
        "attempt": 1,
        "ttft_ms": 10 * number,
        "duration_ms": 20 * number,
        "submitted_at_ms": at_ms,
        "recorded_at_ms": at_ms + 20 * number,
    }
    return UsageRecorded.model_validate({**values, **changes})


def unused_event(number: int = 1, **changes: object) -> UsageRecorded:
    """A bill of nothing."""
    nothing = Usage(prompt_tokens=0, completion_tokens=0)
    return usage_event(number, usage=nothing, attempt=0, cost_nano_usd=0, ttft_ms=None, **changes)  # type: ignore[arg-type]


def append(log: MemoryLog, event: UsageRecorded, partition: int | None = None) -> Record:
    """Put a bill on the log as its writers do."""
    written = serde.event_headers(USAGE_EVENTS, event.turn_id, None)
    return log.put(USAGE_EVENTS.name, event.user_id.encode(), serde.encode(event), written, partition)


def file_names(folder: Path) -> list[str]:
    """The files below ``folder``, relative to it, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """Every row of every file, without removing repeats, in the order of the log."""
    rows: list[dict[str, Any]] = []
    for path in folder.rglob("*.parquet"):
        rows += parquet.ParquetFile(path).read().to_pylist()
    return sorted(rows, key=lambda row: (row["log_partition"], row["log_offset"]))


def sums_on_log(values: list[bytes]) -> tuple[int, int, int, int]:
    """Turns, input tokens, output tokens and cost of these bills, each turn once, by the documented rule."""
    counted: dict[str, dict[str, Any]] = {}
    for bill in map(json.loads, values):
        before = counted.get(bill["turn_id"])
        if before is None or (_is_unused(before) and not _is_unused(bill)):
            counted[bill["turn_id"]] = bill
    tokens = [bill["usage"] for bill in counted.values()]
    return (
        len(counted),
        sum(each["prompt_tokens"] for each in tokens),
        sum(each["completion_tokens"] for each in tokens),
        sum(bill["cost_nano_usd"] for bill in counted.values()),
    )


def _is_unused(bill: dict[str, Any]) -> bool:
    return bill["attempt"] == 0 and not bill["usage"]["prompt_tokens"] + bill["usage"]["completion_tokens"]
