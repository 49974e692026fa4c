"""The differences of a run as Parquet, for whoever wants to ask more than the command answers."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from turnstream.shadow.differences import Difference, Side

_LISTS: Final = frozenset(("categories", "rules"))
_NUMBERS: Final = frozenset(
    (
        "prompt_messages",
        "prompt_dropped",
        "prompt_tokens",
        "answer_chars",
        "billed_prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "ttft_ms",
        "duration_ms",
        "cost_nano_usd",
    )
)


def diff_schema() -> pa.Schema:
    """The columns: of the turn, what changed, then every field of ``Side`` for the original and for the shadow."""
    of_turn = [pa.field(name, pa.string()) for name in ("run_id", "turn_id", "conversation_id", "tenant_id", "user_id")]
    of_change = [
        pa.field("changes", pa.list_(pa.string())),
        pa.field("flip", pa.string()),
        pa.field("original_known", pa.bool_()),
    ]
    of_sides = [
        pa.field(f"{prefix}_{name}", _type(name)) for prefix in ("original", "shadow") for name in Side.model_fields
    ]
    return pa.schema([*of_turn, *of_change, *of_sides])


def write_parquet(differences: Iterable[Difference], file: Path) -> int:
    """Write one row per turn, also the unchanged ones; how many there are. Raises OSError."""
    rows = [_row(each) for each in differences]
    pq.write_table(pa.Table.from_pylist(rows, schema=diff_schema()), file)
    return len(rows)


def _row(difference: Difference) -> dict[str, Any]:
    row = difference.model_dump(exclude={"original", "shadow"})
    row |= {"changes": list(difference.changes), "flip": difference.flip}
    row["original_known"] = difference.original is not None
    for prefix, side in (("original", difference.original), ("shadow", difference.shadow)):
        row |= {f"{prefix}_{name}": _plain(value) for name, value in (side or Side()).model_dump().items()}
    return row


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _type(name: str) -> pa.DataType:
    if name in _LISTS:
        return pa.list_(pa.string())
    return pa.int64() if name in _NUMBERS else pa.string()
