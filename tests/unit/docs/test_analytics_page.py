"""What `docs/analytics.md` shows runs on files that the usage sink wrote."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import duckdb
import pytest

from consumers.usage_sink.core import Line
from consumers.usage_sink.fsspec_lake import FsspecLake
from consumers.usage_sink.parquet_rows import SCHEMA
from schemas.events import Decision, FinishReason
from schemas.ports import TopicPartition
from schemas.topics import USAGE_EVENTS
from tests.support.usage_events import unused_event, usage_event

PAGE = (Path(__file__).parents[3] / "docs" / "analytics.md").read_text(encoding="utf-8")
LAKE = "/lake/usage"
BLOCK = re.compile(r"^```(?P<language>sql|python)(?P<run> run)?\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
EVENTS = (
    usage_event(1),
    usage_event(1),
    usage_event(2, model="turnstream-capable", pool="capable", finish_reason=FinishReason.LENGTH),
    unused_event(3, finish_reason=FinishReason.CONTENT_FILTER, decision=Decision.BLOCKED_INPUT),
    unused_event(4, finish_reason=FinishReason.FAILED),
    usage_event(4),
)
COST = (1 + 2 + 4) * 900


def blocks(language: str, *, run: bool) -> list[str]:
    """The code of the page's blocks in a language."""
    return [
        found["code"] for found in BLOCK.finditer(PAGE) if found["language"] == language and bool(found["run"]) is run
    ]


@pytest.fixture
async def lake(tmp_path: Path) -> str:
    written = FsspecLake(str(tmp_path), {})
    # One file each: repeats in different files are what the views are for.
    for offset, event in enumerate(EVENTS):
        await written.publish(TopicPartition(USAGE_EVENTS.name, 0), [Line(offset, event)])
    return str(tmp_path)


def test_every_query_runs_and_counts_each_turn_once(lake: str) -> None:
    database = duckdb.connect()
    view, bill, endings, slowest, cache = (code.replace(LAKE, lake) for code in blocks("sql", run=True))
    database.execute(view)
    assert database.execute(bill).fetchall()[0][1:4] == ("acme", 4, COST)
    assert [row[:4] for row in database.execute(endings).fetchall()] == [
        ("turnstream-capable", "length", "allowed", 1),
        ("turnstream-fast", "stop", "allowed", 2),
        ("turnstream-fast", "content_filter", "blocked_input", 1),
    ]
    assert [row[2:] for row in database.execute(slowest).fetchall()] == [(40, 3)]
    assert len(database.execute(cache).fetchall()) == 2


def test_the_python_runs(lake: str) -> None:
    (code,) = blocks("python", run=True)
    printed = io.StringIO()
    names: dict[str, Any] = {}
    with redirect_stdout(printed):
        exec(compile(code.replace(LAKE, lake), "docs/analytics.md", "exec"), names)  # noqa: S102 - our own page
    assert printed.getvalue() == f"4 turns, {COST} billionths of a dollar\n"


def test_what_needs_more_than_we_install_is_python_at_least() -> None:
    pandas, spark = blocks("python", run=False)
    for code in (pandas, spark):
        compile(code, "docs/analytics.md", "exec")


def test_the_page_explains_every_column() -> None:
    table = PAGE[PAGE.index("## Columns") : PAGE.index("**Evolution.**")]
    named = {
        name for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    }
    assert named == {*SCHEMA.names, "date", "region"}
