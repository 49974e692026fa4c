"""``turnstream replay shadow``: recorded turns through other rules, another prompt or another model, without effect."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from consumers.inference.chat_template import Template
from schemas.errors import Fatal
from turnstream.audit.actor import NotAllowedError
from turnstream.commands.exits import Exit, fail
from turnstream.commands.replay_options import ReplayOptions, takes_selection
from turnstream.commands.replay_run import Acting, ReplayMode, Run, audit_details, run_replay
from turnstream.commands.running_stack import require_settings
from turnstream.shadow.changes import Changes
from turnstream.shadow.pipeline import INFERENCE, rows_between
from turnstream.shadow.plan import options_of, plan_of, stage_of
from turnstream.wiring.audit import open_trail
from turnstream.wiring.replay import source_of

MODE: Final = "shadow"
ACTION: Final = "replay.shadow"
_IN_FLIGHT: Final = 16

Until = Annotated[
    str, typer.Option("--until-stage", help="The last stage to run; moderation asks no model.", metavar="STAGE")
]
Policy = Annotated[Path | None, typer.Option("--policy", help="Rules (TOML) instead of the deployment's own.")]
System = Annotated[Path | None, typer.Option("--system", help="A text instead of the operator's system messages.")]
ChatTemplate = Annotated[Template | None, typer.Option("--template", help="Of every Triton pool.")]
Model = Annotated[str | None, typer.Option("--model", help="Who answers, whatever was asked for.")]
Pool = Annotated[str | None, typer.Option("--pool", help="Where it is answered.")]
InFlight = Annotated[int, typer.Option("--in-flight", min=1, max=512, help="Turns at once.")]


def register(group: typer.Typer) -> None:
    """Add the command to the ``replay`` commands."""
    group.command(MODE)(takes_selection(shadow))


def shadow(
    options: ReplayOptions,
    *,
    until_stage: Until = INFERENCE,
    policy: Policy = None,
    system: System = None,
    template: ChatTemplate = None,
    model: Model = None,
    pool: Pool = None,
    in_flight: InFlight = _IN_FLIGHT,
) -> None:
    """Run recorded turns through other rules, another prompt or model, and keep what comes of it apart.

    Nobody is billed, nothing is stored, no user sees it. `turnstream replay diff RUN_ID` shows what changed.
    """
    changes = Changes(policy=_absolute(policy), system=_absolute(system), template=template, model=model, pool=pool)
    told = {}
    # A resumed run is what it was: its record says so.
    if options.resume is None:
        try:
            _check_stages(options, until_stage)
            told = dict(options_of(require_settings(), changes, until_stage, in_flight))
        except ValueError as error:
            fail(str(error), Exit.BAD_INPUT)
    run_replay(options, ReplayMode(name=MODE, begin=_begin, options=told))


def _check_stages(options: ReplayOptions, until_stage: str) -> None:
    topic = options.topic or (source_of(options.from_stage) if options.from_stage else None)
    if topic is not None:
        rows_between(stage_of(topic), until_stage)


def _absolute(file: Path | None) -> Path | None:
    # A run is perhaps resumed in another folder.
    return None if file is None else file.absolute()


@asynccontextmanager
async def _begin(run: Run) -> AsyncIterator[Acting]:
    from turnstream.wiring.shadow import open_shadow  # noqa: PLC0415 - the stores' drivers come with extras

    plan = await asyncio.to_thread(plan_of, run.settings, run.record)
    details = {
        "from": plan.began.from_stage,
        "until": plan.began.until_stage,
        **audit_details(run.record),
        **plan.began.changes,
    }
    try:
        async with (
            open_trail(run.settings) as trail,
            trail.acting(ACTION, run.record.run_id, None, details) as outcome,
            open_shadow(plan, run.reader) as turns,
        ):
            yield Acting(turns, lambda: asdict(turns.tally))
            outcome |= {name: str(number) for name, number in asdict(turns.tally).items()}
    except NotAllowedError as error:
        raise Fatal(str(error)) from None
