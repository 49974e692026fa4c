"""Answers as a table, JSON or CSV. Pure."""

import csv
import json
from datetime import date
from decimal import Decimal
from io import StringIO
from typing import Any, Final

from rich.table import Column, Table

from turnstream.usage_reports.reading import Answer

_MILLIONTH: Final = Decimal("0.000001")


def as_json(answer: Answer) -> str:
    """A list of objects by column. Dollars are text, because a JSON number would round them."""
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    return json.dumps(rows, default=_plain, indent=2)


def as_csv(answer: Answer) -> str:
    """A header and a line per row, RFC 4180."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(answer.columns)
    writer.writerows([_plain(value) if value is not None else "" for value in row] for row in answer.rows)
    return text.getvalue().rstrip("\n")


def as_table(answer: Answer) -> Table:
    """For a terminal; numbers to the right, and dollars to a millionth."""
    first = answer.rows[0] if answer.rows else ()
    numeric = [isinstance(value, int | float | Decimal) for value in first] or [False] * len(answer.columns)
    columns = [
        # Headings in lines of their own words: seven columns of numbers fit a terminal of 80.
        Column(name.replace("_", "\n"), justify="right" if right else "left", overflow="fold")
        for name, right in zip(answer.columns, numeric, strict=True)
    ]
    table = Table(*columns, box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    for row in answer.rows:
        table.add_row(*(_shown(value) for value in row))
    return table


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Decimal):
        return f"{value.quantize(_MILLIONTH):f}"
    return str(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value if isinstance(value, int | float | str) else str(value)
