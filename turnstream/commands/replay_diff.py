"""``turnstream replay diff`` and ``shadows``: what shadow runs there are, and what each of them changed."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console

from producers.replay.plan import Progress
from schemas.errors import Fatal, Retryable
from schemas.shadow import ShadowBegan, run_of
from turnstream.commands.audited import audited
from turnstream.commands.exits import Exit, fail
from turnstream.commands.moments import moment_text
from turnstream.commands.replay_output import ProgressDisplay, note
from turnstream.commands.running_stack import fail_unreachable, require_settings
from turnstream.exception_groups import leaves
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.log.kafka_topics import delete_topics, topic_names
from turnstream.settings import Settings
from turnstream.shadow.differences import Difference, Only, chosen, compare, summarise
from turnstream.shadow.facts import TOPICS
from turnstream.shadow.pipeline import INFERENCE
from turnstream.shadow.reading import DiffSettings, OnRead, read_originals, read_run, read_shadows
from turnstream.shadow.rendering import render
from turnstream.wiring.replay import find_partitions

DROP: Final = "replay.drop_shadow"

RunId = Annotated[str, typer.Argument(help="The run, as `replay shadow` said it.", show_default=False)]
ParquetFile = Annotated[Path | None, typer.Option("--parquet", help="Write every turn to this Parquet file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OnlyOption = Annotated[Only | None, typer.Option("--only", help="List turns with this change alone.")]
Drop = Annotated[str | None, typer.Option("--drop", metavar="RUN_ID", help="Delete the topics of this run.")]


def register(group: typer.Typer) -> None:
    """Add the commands to the ``replay`` commands."""
    group.command("diff")(diff)
    group.command("shadows")(shadows)


def diff(run_id: RunId, *, parquet: ParquetFile = None, as_json: AsJson = False, only: OnlyOption = None) -> None:
    """Compare the turns of a shadow run with what they were: decisions, prompts, answers, tokens, times. No content.

    Exit code 4: no such run.
    """
    settings = require_settings()
    found = Found()
    try:
        found = asyncio.run(find_differences(settings, run_id))
    except* (Retryable, Fatal) as group:
        _fail(leaves(group)[0])
    if found.began is None:
        fail(f"no shadow run {run_id}: `turnstream replay shadows` lists them", Exit.NOT_FOUND)
    summary, listed = summarise(run_id, found.differences), chosen(found.differences, only)
    if parquet is not None:
        _write(found.differences, parquet)
    if as_json:
        told = {
            "run": found.began.model_dump(mode="json"),
            "summary": summary.model_dump(mode="json"),
            "turns": [{**each.model_dump(mode="json"), "flip": each.flip} for each in listed],
        }
        typer.echo(json.dumps(told, indent=2))
    else:
        render(summary, listed, Console())


def shadows(*, drop: Drop = None, as_json: AsJson = False) -> None:
    """List the shadow runs whose topics are there, or delete those of one. Exit code 4: no such run."""
    settings = require_settings()
    if drop is not None:
        _drop(settings, drop)
        return
    runs: Mapping[str, ShadowBegan | None] = {}
    try:
        runs = asyncio.run(find_runs(settings))
    except* (Retryable, Fatal) as group:
        _fail(leaves(group)[0])
    if as_json:
        typer.echo(json.dumps({run_id: run and run.model_dump(mode="json") for run_id, run in runs.items()}, indent=2))
        return
    for run_id, run in runs.items():
        typer.echo(_line(run_id, run))
    if not runs:
        note("there is no shadow run")


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of a run: None without its record."""

    began: ShadowBegan | None = None
    differences: Sequence[Difference] = ()


async def find_differences(settings: Settings, run_id: str) -> Found:
    """Compare the turns of a run with the live log. Raises Retryable, Fatal."""
    if not await _topics_of(settings, run_id):
        return Found()
    partitions_of = await find_partitions(settings)
    partitions = [partition for topic in TOPICS for partition in partitions_of(topic.name)]
    async with KafkaLogReader(settings.kafka) as reader:
        began = await read_run(reader, run_id)
        if began is None:
            return Found()
        with ProgressDisplay() as display:
            shadow = (await read_shadows(reader, run_id, _told(display, "shadow"))).facts()
            on_read = _told(display, "original")
            original = (await read_originals(reader, partitions, list(shadow), DiffSettings(), on_read)).facts()
    return Found(began, compare(run_id, original, shadow, answered=began.until_stage == INFERENCE))


def _told(display: ProgressDisplay, phase: str) -> OnRead:
    return lambda done, total: display(Progress(phase, done, total, 0))


def _write(differences: Sequence[Difference], file: Path) -> None:
    try:
        from turnstream.shadow.parquet import write_parquet  # noqa: PLC0415 - pyarrow comes with an extra
    except ModuleNotFoundError:
        fail("--parquet needs pyarrow: install turnstream[usage]")
    try:
        rows = write_parquet(differences, file)
    except OSError as error:
        fail(f"{file.name} cannot be written: {error.strerror or type(error).__name__}")
    note(f"{rows} turns in {file.name}")


async def _topics_of(settings: Settings, run_id: str) -> list[str]:
    return sorted(name for name in await topic_names(settings.kafka) if run_of(name) == run_id)


async def find_runs(settings: Settings) -> Mapping[str, ShadowBegan | None]:
    """Every run that has a topic, by id, with its record if that is there. Raises Retryable, Fatal."""
    names = await topic_names(settings.kafka)
    run_ids = sorted({run_id for name in names if (run_id := run_of(name)) is not None})
    async with KafkaLogReader(settings.kafka) as reader:
        return {run_id: await read_run(reader, run_id) for run_id in run_ids}


def _drop(settings: Settings, run_id: str) -> None:
    try:
        names = asyncio.run(_topics_of(settings, run_id))
        if not names:
            fail(f"no shadow run {run_id}", Exit.NOT_FOUND)
        with audited(settings, DROP, run_id):
            asyncio.run(delete_topics(settings.kafka, names))
    except (Retryable, Fatal) as error:
        _fail(error)
    typer.echo(f"deleted {len(names)} topics of {run_id}")


def _line(run_id: str, run: ShadowBegan | None) -> str:
    if run is None:
        return f"{run_id}  its record is gone: retention took it, or it never began"
    changes = ", ".join(f"{name} {value}" for name, value in run.changes.items()) or "nothing changed"
    return f"{run_id}  {moment_text(run.began_at_ms)} UTC  {run.from_stage} to {run.until_stage}: {changes}"


def _fail(error: BaseException) -> NoReturn:
    if isinstance(error, Retryable):
        fail_unreachable(str(error))
    fail(str(error))
