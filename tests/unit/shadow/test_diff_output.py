"""The differences as a table, as JSON and as Parquet."""

from io import StringIO
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console

from turnstream.shadow.differences import Difference, Side, chosen, summarise
from turnstream.shadow.parquet import diff_schema, write_parquet
from turnstream.shadow.rendering import ROWS_MAX, render

OF_TURN = ("run_id", "turn_id", "conversation_id", "tenant_id", "user_id", "changes", "flip", "original_known")
OF_A_SIDE = (
    *("outcome", "stage", "code", "decision", "categories", "rules", "policy", "model", "pool"),
    *("prompt_hash", "prompt_messages", "prompt_dropped", "prompt_tokens", "answer_hash", "answer_chars"),
    *("billed_prompt_tokens", "completion_tokens", "cached_tokens", "finish_reason", "ttft_ms", "duration_ms"),
    "cost_nano_usd",
)


def row(number: int, *changes: str, known: bool = True) -> Difference:
    original = Side(outcome="finished", decision="allowed", rules=("a",), completion_tokens=5, ttft_ms=10)
    shadow = Side(outcome="refused", decision="blocked_input", rules=("a", "b"), completion_tokens=0)
    return Difference.model_validate(
        {
            "run_id": "run",
            "turn_id": f"turn-{number}",
            "conversation_id": "c",
            "tenant_id": "t",
            "user_id": "u",
            "changes": changes,
            "original": original if known else None,
            "shadow": shadow,
        }
    )


def test_parquet_has_every_turn_and_stable_columns(tmp_path: Path) -> None:
    file = tmp_path / "diff.parquet"
    assert write_parquet([row(1, "decision"), row(2, known=False)], file) == 2
    table = pq.read_table(file)
    sides = [f"{side}_{name}" for side in ("original", "shadow") for name in OF_A_SIDE]
    assert table.column_names == [*OF_TURN, *sides] == diff_schema().names
    first, second = table.to_pylist()
    assert (first["flip"], first["shadow_rules"], first["original_ttft_ms"]) == (
        "allowed -> blocked_input",
        ["a", "b"],
        10,
    )
    assert (second["original_known"], second["original_outcome"], second["changes"]) == (False, None, [])


def test_an_empty_run_is_an_empty_file(tmp_path: Path) -> None:
    assert write_parquet([], tmp_path / "diff.parquet") == 0
    assert pq.read_table(tmp_path / "diff.parquet").schema == diff_schema()


def test_the_table_lists_what_was_asked_for_and_says_what_is_left_out() -> None:
    rows = [row(number, "decision", "rules") for number in range(ROWS_MAX + 3)] + [row(99, "prompt"), row(100)]
    console = Console(record=True, width=200, file=StringIO())
    render(summarise("run", rows), chosen(rows, "flipped"), console)
    text = console.export_text()
    assert "allowed -> blocked_input" in text
    assert "and 3 more" in text
    assert "turn-99" not in text
    assert [each.turn_id for each in chosen(rows, "prompts")] == ["turn-99"]
    assert len(chosen(rows, None)) == ROWS_MAX + 4
    assert chosen(rows, "answers") == []
