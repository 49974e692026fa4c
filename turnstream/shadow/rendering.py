"""The differences of a run on a terminal. No content is ever shown: it is not known here."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from turnstream.shadow.differences import Difference, DiffSummary, Side, verdict

ROWS_MAX: Final = 40
_UNKNOWN: Final = "-"


def render(summary: DiffSummary, listed: Sequence[Difference], console: Console) -> None:
    """The summary, then one line per changed turn, at most ``ROWS_MAX`` of them."""
    console.print(_summary(summary))
    if not listed:
        console.print("no changed turns to list")
        return
    table = Table("turn", "changed", "decision", "rules", "prompt tokens", "answer", "tokens out", "ttft ms", box=None)
    for each in listed[:ROWS_MAX]:
        table.add_row(*_line(each))
    console.print(table)
    if len(listed) > ROWS_MAX:
        console.print(f"and {len(listed) - ROWS_MAX} more: --json or --parquet FILE shows all")


def _summary(summary: DiffSummary) -> Table:
    table = Table(box=None, show_header=False)
    rows: list[tuple[str, object]] = [
        ("run", summary.run_id),
        ("turns", f"{summary.turns}, compared {summary.compared}, unchanged {summary.unchanged}"),
    ]
    if summary.original_unknown:
        rows.append(("original unknown", f"{summary.original_unknown}: older than the retention of their topics"))
    rows += [(f"changed: {name}", count) for name, count in summary.changes.items()]
    rows += [(f"flipped: {flip}", count) for flip, count in summary.flips.items()]
    if summary.original_tokens:
        rows += [
            ("tokens", f"{summary.original_tokens} -> {summary.shadow_tokens}"),
            ("ttft p50 ms", f"{_shown(summary.original_ttft_ms_p50)} -> {_shown(summary.shadow_ttft_ms_p50)}"),
            (
                "duration p50 ms",
                f"{_shown(summary.original_duration_ms_p50)} -> {_shown(summary.shadow_duration_ms_p50)}",
            ),
        ]
    for name, told in rows:
        table.add_row(name, str(told))
    return table


def _line(each: Difference) -> tuple[str, ...]:
    one, two = each.original or Side(), each.shadow or Side()
    return (
        each.turn_id,
        ", ".join(each.changes),
        each.flip or verdict(two),
        _change(" ".join(one.rules), " ".join(two.rules)),
        _change(one.prompt_tokens, two.prompt_tokens),
        _change(one.answer_hash, two.answer_hash),
        _change(one.completion_tokens, two.completion_tokens),
        _change(one.ttft_ms, two.ttft_ms),
    )


def _change(one: object, two: object) -> str:
    return _shown(one) if one == two else f"{_shown(one)} -> {_shown(two)}"


def _shown(value: object) -> str:
    return _UNKNOWN if value in (None, "") else str(value)
