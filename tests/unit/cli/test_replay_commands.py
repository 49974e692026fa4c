import io
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from consumers.retry import RetryPolicy
from producers.replay.plan import Plan, PlannedRange, Progress
from producers.replay.run import Summary
from producers.replay.selection import Selection
from schemas import topics
from schemas.errors import Fatal, Retryable
from schemas.ports import Record, TopicPartition
from schemas.serde import encode
from schemas.tokens import Probed
from stream_processors.topology import ROWS
from tests.support.answer_records import PARTITION, answer, turn_id_of
from tests.support.memory_log import MemoryLog
from turnstream.cli import app
from turnstream.commands import replay_run
from turnstream.commands.replay_options import ReplayOptions, takes_selection
from turnstream.commands.replay_output import ProgressDisplay, plan_lines, show_plan, show_summary
from turnstream.commands.replay_rebuild import whole_turns
from turnstream.commands.replay_run import Acting, ReplayMode, Run, audit_details, retrying, run_replay
from turnstream.settings import Settings
from turnstream.wiring.replay import STAGE_SOURCES, TopicPartitions, source_of

NOW_MS = 1_763_700_000_000
TOKENS = topics.TOKENS.name


@dataclass
class World:
    """Two turns on a log in memory, and a mode that remembers what it was given."""

    log: MemoryLog = field(default_factory=lambda: MemoryLog(topics={TOKENS: 6}))
    audited: list[Mapping[str, str]] = field(default_factory=list)
    given: list[Record] = field(default_factory=list)
    killed_at: int | None = None
    complaint: str | None = None

    def __post_init__(self) -> None:
        for number in (1, 2):
            for event in answer(number, "a"):
                self.log.put(TOKENS, turn_id_of(number).encode(), encode(event), (), PARTITION.partition)

    async def act(self, records: Sequence[Record]) -> None:
        if self.killed_at is not None and len(self.given) >= self.killed_at:
            raise Fatal("killed")
        self.given.extend(records)

    @asynccontextmanager
    async def begin(self, run: Run) -> AsyncIterator[Acting]:
        self.audited.append(audit_details(run.record))
        yield Acting(self.act, lambda: {"seen": len(self.given)}, lambda: self.complaint)

    def run(self, *arguments: str) -> Result:
        one = typer.Typer()
        one.callback()(lambda: None)
        mode = ReplayMode("test", self.begin, topic=TOKENS)
        one.command("test")(takes_selection(lambda options: run_replay(options, mode)))
        return CliRunner().invoke(one, ["test", *arguments])


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    world = World()
    settings = Settings.model_validate({"replay": {"folder": tmp_path}})

    @asynccontextmanager
    async def reader(_settings: object) -> AsyncIterator[Any]:
        yield world.log.reader()

    async def find_partitions(_settings: object) -> TopicPartitions:
        return TopicPartitions({TOKENS: 6})

    monkeypatch.setattr(replay_run, "require_settings", lambda: settings)
    monkeypatch.setattr(replay_run, "KafkaLogReader", reader)
    monkeypatch.setattr(replay_run, "find_partitions", find_partitions)
    return world


def test_without_execute_there_is_the_plan_alone(world: World, tmp_path: Path) -> None:
    done = world.run("--where", 'type == "delta"')
    assert (done.exit_code, world.given, list(tmp_path.iterdir())) == (0, [], [])
    assert "2 selected of 8 read" in done.stdout
    assert "--execute acts" in done.stderr


def test_a_run_gives_what_is_meant_and_an_audit_does_not_tell_its_filter(world: World) -> None:
    done = world.run("--where", 'type == "delta"', "--execute", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["records"], told["counts"]) == (0, 2, {"seen": 2})
    assert [record.offset for record in world.given] == [2, 6]
    assert world.audited == [{"records": "2", "topic": TOKENS}]


def test_a_run_that_failed_goes_on_with_its_id(world: World) -> None:
    # Batches of one.
    world.killed_at = 3
    failed = world.run("--execute", "--rate", "7")
    assert (failed.exit_code, len(world.given)) == (1, 3)
    run_id = failed.stderr.split()[1].rstrip(";")
    world.killed_at = None
    done = world.run("--resume", run_id, "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["run_id"], told["before"], told["records"]) == (0, run_id, 3, 5)
    assert [record.offset for record in world.given] == list(range(8))
    again = world.run("--resume", run_id, "--json")
    assert (again.exit_code, json.loads(again.stdout)["records"]) == (0, 0)


def test_nothing_meant_is_exit_code_4_and_a_complaint_is_exit_code_1(world: World) -> None:
    assert world.run("--where", 'type == "failed"', "--execute").exit_code == 4
    world.complaint = "look at it"
    done = world.run("--execute")
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (1, "error: look at it")


def test_a_run_that_is_not_there_is_exit_code_2(world: World) -> None:
    done = world.run("--resume", "r9")
    assert done.exit_code == 2
    assert "no run r9" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--topic or --from-stage"),
        (("--topic", "chat.nothing.v1"), "no such topic"),
        (("--from-stage", "inference"), "no such stage: inference; there are auth"),
        (("--from-stage", "prompt", "--topic", TOKENS), "prompt does not read"),
        (("--from-stage", "prompt", "--where", "turn.colour == 1"), "turn has no field colour"),
        (("--from-stage", "prompt", "--where", "turn.model =="), "malformed at character"),
        (("--from-stage", "prompt", "--since", "soon"), "not a time"),
        (("--from-stage", "prompt", "--offsets", "1-2"), "not a range of offsets"),
        (("--from-stage", "prompt", "--turn", "x"), "26 characters"),
        (("--resume", "r1", "--tenant", "acme"), "give it alone"),
    ],
)
@pytest.mark.usefixtures("world")
def test_a_wrong_option_is_one_clear_line_and_exit_code_2(arguments: Sequence[str], words: str) -> None:
    done = CliRunner().invoke(app, ["replay", "plan", *arguments])
    assert done.exit_code == 2
    (line,) = done.stderr.strip().splitlines()
    assert words in line


def test_options_are_those_that_every_mode_has_and_its_own() -> None:
    seen: list[tuple[ReplayOptions, int]] = []

    def mode(options: ReplayOptions, *, depth: int = 3) -> None:
        """Do it."""
        seen.append((options, depth))

    one = typer.Typer()
    one.command()(takes_selection(mode))
    chosen = ("--from-stage", "moderation", "--since", "2h", "--offsets", "0:1-2", "--tenant", "acme", "--execute")
    done = CliRunner().invoke(one, [*chosen, "--rate", "5", "--depth", "7"])
    assert done.exit_code == 0, done.output
    ((options, depth),) = seen
    assert (depth, options.rate, options.execute, options.resume) == (7, 5.0, True, None)
    assert options.selection(NOW_MS) == Selection(
        topic=topics.TURNS_PROMPTED.name, since_ms=NOW_MS - 7_200_000, offsets={0: (1, 3)}, tenant="acme"
    )


def test_every_stage_has_the_topic_that_it_reads() -> None:
    assert {row.name: row.source.name for row in ROWS}.items() <= STAGE_SOURCES.items()
    assert source_of("inference.fast") == "inference.requests.fast.v1"
    assert source_of("cassandra_sink") == TOKENS


@pytest.fixture
def plan() -> Plan:
    ranges = [
        PlannedRange(partition=TopicPartition(TOKENS, each), start=10, stop=20, selected=each) for each in range(24)
    ]
    selection = Selection(topic=TOKENS, turns=frozenset({turn_id_of(1)}))
    return Plan(selection=selection, ranges=tuple(ranges), scanned=30, selected=9, first_ms=NOW_MS, last_ms=NOW_MS)


def test_a_plan_names_what_it_means(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    lines = plan_lines(plan)
    assert "9 selected of 30 read" in lines[1]
    assert "2025-11-21 04:40:00 UTC" in lines[2]
    assert lines[-1] == "  and 3 more"
    assert f"  {TOKENS}/1: 1 records of the offsets 10 to 19" in lines
    show_plan(plan, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["selected"], "turns" in told["selection"]) == (9, False)


@pytest.mark.parametrize(
    ("cost_usd", "unpriced", "told"),
    [
        (0.0, 0, "at most $0.0000 if every turn were asked again"),
        (1.5, 0, "at most $1.5000 if every turn were asked again"),
        (1.5, 2, "at most $1.5000 if every turn were asked again, without 2 records that name no model with a price"),
        (0.0, 2, "unknown: 2 records name no model with a price"),
    ],
)
def test_a_cost_that_nobody_knows_is_not_zero(plan: Plan, cost_usd: float, unpriced: int, told: str) -> None:
    lines = plan_lines(plan.model_copy(update={"cost_usd": cost_usd, "unpriced": unpriced}))
    assert f"cost        {told}" in lines


def test_a_summary_is_told_in_words_or_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    summary = Summary(run_id="r1", mode="rebuild", records=5, before=2, partitions=1, counts={"rows_not_restored": 0})
    show_summary(summary, 1.0, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "rebuild r1: 5 records in 1.0 s, after 2 before it was resumed",
        "  rows not restored: 0",
    ]
    show_summary(summary, 1.0, as_json=True)
    assert json.loads(capsys.readouterr().out) == {**summary.model_dump(), "seconds": 1.0}


def test_progress_is_a_line_of_json_a_second_where_nobody_watches() -> None:
    clock: Iterator[float] = iter([0.0, 0.5, 1.5, 1.5, 1.9, 2.6, 2.6])
    file = io.StringIO()
    with ProgressDisplay(Console(file=file), lambda: next(clock)) as on_progress:
        for done in range(4):
            on_progress(Progress("plan", done, 4, done))
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [line["offsets"] for line in lines] == [1, 3]
    assert lines[0] == {"phase": "plan", "offsets": 1, "offsets_total": 4, "selected": 1}


def test_progress_is_a_bar_on_a_terminal() -> None:
    file = io.StringIO()
    with ProgressDisplay(Console(file=file, force_terminal=True, width=80)) as on_progress:
        on_progress(Progress("plan", 1, 4, 1))
        on_progress(Progress("replay", 4, 4, 4))
    assert "replay" in file.getvalue()


async def test_what_fails_for_a_moment_is_given_again_and_what_stays_ends_the_run() -> None:
    failures = [2]

    async def act(records: Sequence[Record]) -> None:
        assert records == ()
        if failures[0]:
            failures[0] -= 1
            raise Retryable("the store rests")

    policy = RetryPolicy(attempts_max=3, first_delay_s=0.001)
    await retrying(act, policy)(())
    failures[0] = 3
    with pytest.raises(Retryable, match="rests"):
        await retrying(act, policy)(())


async def test_a_rebuild_passes_over_records_of_no_turn() -> None:
    log = MemoryLog(topics={TOKENS: 6})
    probe = encode(Probed(edge_id="e", nonce="n"))
    log.put(TOKENS, b"probe-e", probe, (), PARTITION.partition, timestamp_ms=1_700_000_000_000)
    for event in answer(1, "a"):
        key = turn_id_of(1).encode()
        log.put(TOKENS, key, encode(event), (), PARTITION.partition, timestamp_ms=1_700_000_000_001)
    wanted = Selection(topic=TOKENS, since_ms=1_700_000_000_000)
    meant = await whole_turns(log.reader(), TopicPartitions({TOKENS: 6}), wanted, lambda _progress: None)
    assert meant.turns == frozenset({turn_id_of(1)})


async def test_a_rebuild_means_whole_turns() -> None:
    log = MemoryLog(topics={TOKENS: 6})
    for number in (1, 2):
        for event in answer(number, "a"):
            key = turn_id_of(number).encode()
            log.put(TOKENS, key, encode(event), (), PARTITION.partition, timestamp_ms=1_700_000_000_000 + number)
    partitions_of = TopicPartitions({TOKENS: 6})

    def ignore(_progress: Progress) -> None: ...

    everything = Selection(topic=TOKENS)
    assert await whole_turns(log.reader(), partitions_of, everything, ignore) == everything
    # The offset of one delta.
    one = Selection(topic=TOKENS, offsets={3: (2, 3)})
    meant = await whole_turns(log.reader(), partitions_of, one, ignore)
    assert (meant.turns, meant.offsets) == (frozenset({turn_id_of(1)}), None)
    assert meant.since_ms is not None
    assert meant.since_ms < 1_700_000_000_001
    with pytest.raises(ValueError, match="a rebuild reads"):
        await whole_turns(log.reader(), partitions_of, Selection(topic=topics.USAGE_EVENTS.name), ignore)


def test_a_topic_that_the_broker_lacks_is_named() -> None:
    with pytest.raises(ValueError, match=f"the broker has no topic {TOKENS}"):
        TopicPartitions({})(TOKENS)
