"""Reports over usage files: the numbers, the SQL that ships, and how answers are printed."""

import csv
import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import duckdb
import fsspec
import pytest
from typer.testing import CliRunner

from consumers.usage_sink.core import Line
from consumers.usage_sink.fsspec_lake import FsspecLake
from schemas.events import Decision, FinishReason, UsageRecorded
from schemas.ports import TopicPartition
from schemas.topics import USAGE_EVENTS
from tests.support.usage_events import unused_event, usage_event
from turnstream.cli import app
from turnstream.commands.exits import Exit
from turnstream.usage_reports import queries
from turnstream.usage_reports.queries import Within
from turnstream.usage_reports.reading import NoFiles, UsageFiles, make_views

DAY_MS = 86_400_000
MIDNIGHT_MS = 20_000 * DAY_MS  # 2024-10-04
PARTITION = TopicPartition(USAGE_EVENTS.name, 0)
ALWAYS = Within()
EVENTS = (
    usage_event(1, at_ms=MIDNIGHT_MS - 1, tenant_id="acme"),
    usage_event(2, at_ms=MIDNIGHT_MS, tenant_id="acme", model="turnstream-capable", pool="capable"),
    unused_event(3, at_ms=MIDNIGHT_MS, decision=Decision.BLOCKED_INPUT, finish_reason=FinishReason.CONTENT_FILTER),
    unused_event(4, at_ms=MIDNIGHT_MS, finish_reason=FinishReason.FAILED),
    usage_event(4, at_ms=MIDNIGHT_MS, tenant_id="zenith"),
)


async def write(url: str, events: Sequence[UsageRecorded], rows_in_file: int = 2) -> None:
    lake = FsspecLake(url, {})
    lines = [Line(offset, event) for offset, event in enumerate(events)]
    for first in range(0, len(lines), rows_in_file):
        await lake.publish(PARTITION, lines[first : first + rows_in_file])


@pytest.fixture
async def files(tmp_path: Path) -> UsageFiles:
    # The unused bill of turn 4 is in another file than the used one.
    await write(str(tmp_path), EVENTS)
    return UsageFiles(str(tmp_path), {})


def test_a_turn_with_two_bills_counts_once_and_the_raw_rows_are_there(files: UsageFiles) -> None:
    assert files.ask("SELECT count(*), sum(input_tokens) FROM usage").rows == [(4, 1 + 2 + 4)]
    assert files.ask("SELECT count(*) FROM usage_rows").rows == [(5,)]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("tenant", [("zenith", 1, 3_600), ("acme", 3, 2_700)]),
        ("model", [("turnstream-fast", 3, 4_500), ("turnstream-capable", 1, 1_800)]),
        ("day", [("2024-10-03", 1, 900), ("2024-10-04", 3, 5_400)]),
    ],
)
def test_cost_adds_up_by_every_grouping(
    files: UsageFiles, by: queries.CostBy, expected: list[tuple[str, int, int]]
) -> None:
    answer = files.ask(queries.cost(by, ALWAYS))
    places = [answer.columns.index(name) for name in ("turns", "cost_nano_usd")]
    assert [(str(row[0]), *(row[place] for place in places)) for row in answer.rows] == expected
    assert f"{answer.rows[0][-1]:f}" == f"0.{expected[0][2]:09}"


def test_sums_beyond_what_a_float_holds_are_exact(tmp_path: Path) -> None:
    database = duckdb.connect()
    folder = tmp_path / "date=2024-10-04" / "region=local"
    folder.mkdir(parents=True)
    # 2^53 + 1 is the first whole number that a double rounds.
    names = "tenant_id, model, turn_id, log_partition, log_offset, attempt, input_tokens, output_tokens, cached_tokens"
    values = ", ".join(f"('a', 'm', 't{n}', 0, {n}, 1, 1, 1, 0, 9007199254740993, now(), now())" for n in range(3))
    database.execute(
        f"COPY (SELECT * FROM (VALUES {values}) AS t({names}, cost_nano_usd, submitted_at, recorded_at)) "  # noqa: S608 - the test's own
        f"TO '{folder / 'usage.parquet'}' (FORMAT parquet)"
    )
    row = UsageFiles(str(tmp_path), {}).ask(queries.cost("tenant", ALWAYS)).rows[0]
    assert row[-2] == 3 * 9_007_199_254_740_993
    assert str(row[-1]) == "27021597.764222979"


def test_a_span_takes_its_first_moment_and_leaves_its_last(files: UsageFiles) -> None:
    def turns(since_ms: int | None, until_ms: int | None) -> int:
        rows = files.ask(queries.turns("day", Within(since_ms, until_ms))).rows
        return sum(row[1] for row in rows)

    assert [
        turns(*span) for span in ((MIDNIGHT_MS, None), (None, MIDNIGHT_MS), (MIDNIGHT_MS - 1, MIDNIGHT_MS + 1))
    ] == [
        3,
        1,
        4,
    ]
    assert turns(MIDNIGHT_MS + 1, None) == 0


def test_top_users_latency_and_how_turns_ended(files: UsageFiles) -> None:
    top = files.ask(queries.top_users(2, ALWAYS))
    assert [row[:3] for row in top.rows] == [("zenith", "user-1", 1), ("acme", "user-2", 1)]
    latency = files.ask(queries.latency("pool", ALWAYS))
    assert latency.columns[:3] == ["pool", "turns", "ttft_ms_p50"]
    assert [row[:3] for row in latency.rows] == [("capable", 1, 20), ("fast", 2, 10)]
    ended = files.ask(queries.turns("decision", ALWAYS))
    assert [row[:3] for row in ended.rows] == [("allowed", 3, 0), ("blocked_input", 1, 1)]


def test_a_reader_of_one_day_opens_the_files_of_that_day_alone(files: UsageFiles) -> None:
    plan = files.ask(f"EXPLAIN ANALYZE {queries.cost('tenant', Within(since_ms=MIDNIGHT_MS))}").rows[0][1]
    assert "Scanning Files: 3/4" in " ".join(plan.split()), plan


async def test_an_object_store_is_read_by_its_url() -> None:
    fsspec.filesystem("memory")
    await write("memory://lake-of-reports", EVENTS)
    assert len(UsageFiles("memory://lake-of-reports", {}).ask("FROM usage").rows) == 4
    with pytest.raises(NoFiles):
        UsageFiles("memory://empty-lake", {})
    assert "'memory:///empty-lake/date=*/region=*/*.parquet'" in make_views("memory://empty-lake", {})


def test_a_quote_in_a_folder_does_not_end_the_text(tmp_path: Path) -> None:
    with pytest.raises(NoFiles):
        UsageFiles(str(tmp_path / "it's"), {})


# --- the command -----------------------------------------------------------------------------------------


@pytest.fixture
async def lake(tmp_path: Path) -> str:
    await write(str(tmp_path), EVENTS)
    return str(tmp_path)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["usage", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_prints_tables_json_and_csv(lake: str) -> None:
    code, table, _ = run("cost", "--by", "day", "--lake", lake)
    assert code == 0
    assert "2024-10-04" in table
    _, text, _ = run("cost", "--by", "tenant", "--lake", lake, "--format", "json")
    first = json.loads(text)[0]
    assert (first["tenant_id"], first["cost_nano_usd"], first["cost_usd"]) == ("zenith", 3_600, "0.000003600")
    _, text, _ = run("top-users", "--lake", lake, "--format", "csv", "--limit", "1")
    header, row = csv.reader(StringIO(text))
    assert (header[:2], row[:2]) == (["tenant_id", "user_id"], ["zenith", "user-1"])


def test_models_are_not_folded_in_the_widest_report(lake: str) -> None:
    code, table, _ = run("latency", "--by", "model", "--lake", lake)
    assert code == 0
    assert "turnstream-capable " in table
    assert max(len(line) for line in table.splitlines()) <= 80


def test_the_sql_that_is_shown_runs_as_it_stands(lake: str) -> None:
    for arguments in (
        ("cost", "--by", "model", "--since", "2024-10-04"),
        ("top-users",),
        ("latency", "--by", "day", "--until", "2024-10-05T00:00:00Z"),
        ("turns",),
    ):
        code, script, _ = run(*arguments, "--lake", lake, "--show-sql")
        assert code == 0
        assert duckdb.connect().execute(script).fetchall()


def test_sql_of_ones_own_and_its_mistakes(lake: str) -> None:
    code, text, _ = run("sql", "SELECT max(submitted_at) AS newest FROM usage", "--lake", lake, "--format", "json")
    assert (code, json.loads(text)) == (0, [{"newest": "2024-10-04T00:00:00"}])
    code, _, error = run("sql", "SELECT nothing FROM usage", "--lake", lake)
    assert code == Exit.BAD_INPUT
    assert error.startswith("error: DuckDB: Binder Error")


def test_an_empty_lake_and_bad_times_are_told_in_one_line(tmp_path: Path) -> None:
    code, _, error = run("cost", "--lake", str(tmp_path))
    assert code == Exit.NOT_FOUND
    assert error.startswith(f"error: no usage files at {tmp_path}; a file is written")
    code, _, error = run("cost", "--lake", str(tmp_path), "--since", "whenever")
    assert (code, error.count("\n")) == (Exit.BAD_INPUT, 1)
    code, _, error = run("cost", "--lake", str(tmp_path), "--since", "2024-10-04", "--until", "2024-10-03")
    assert (code, error) == (Exit.BAD_INPUT, "error: --until must be after --since\n")
