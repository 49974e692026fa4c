"""``turnstream replay rebuild``: the history and the hot contexts again, from the log."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

import typer

from producers.replay.joins import find_turns
from producers.replay.plan import OnProgress
from producers.replay.selection import Selection
from schemas.ids import turn_time_ms
from schemas.ports import LogReader
from schemas.topics import TOKENS
from turnstream.commands.audited import trail_of_run
from turnstream.commands.exits import fail
from turnstream.commands.replay_options import ReplayOptions
from turnstream.commands.replay_run import Acting, ReplayMode, Run, audit_details, run_replay
from turnstream.wiring.replay import TopicPartitions

MODE: Final = "rebuild"
# How much the clock of another process may lag behind that of the edge which made a turn's id.
SKEW_MS: Final = 10_000


_OWNERS: Final = "restore_owners"

RestoreOwners = Annotated[
    bool,
    typer.Option("--restore-owners", help="Also conversations that nobody owns: they are given to whom they name."),
]


def rebuild(options: ReplayOptions, *, restore_owners: RestoreOwners = False) -> None:
    """Write history and conversations again from chat.tokens.v1, as far back as it goes; drop their hot contexts.

    Whole turns, by any of their records. What users deleted stays deleted; answers in progress are left alone.
    """
    own = {_OWNERS: "yes"} if restore_owners else {}
    run_replay(options, ReplayMode(MODE, _begin, options=own, topic=TOKENS.name, narrow=whole_turns))


async def whole_turns(
    reader: LogReader, partitions_of: TopicPartitions, selection: Selection, on_progress: OnProgress
) -> Selection:
    """All records of the turns of which ``selection`` means one. Raises ValueError for another topic."""
    if selection.topic != TOKENS.name:
        raise ValueError(f"a rebuild reads {TOKENS.name}: give neither --topic nor another stage")
    if not selection.narrow:
        return selection
    turns = await find_turns(reader, partitions_of(selection.topic), selection, on_progress)
    since_ms = min((max(0, turn_time_ms(turn_id) - SKEW_MS) for turn_id in turns), default=None)
    return Selection(topic=selection.topic, turns=turns, since_ms=since_ms)


@asynccontextmanager
async def _begin(run: Run) -> AsyncIterator[Acting]:
    try:
        from turnstream.wiring.rebuild import open_rebuild  # noqa: PLC0415  # the drivers come with an extra
    except ModuleNotFoundError as missing:
        fail(f"{missing.name} is missing: install the extra `turnstream[sink]`")
    async with (
        trail_of_run(run.settings) as trail,
        trail.acting("replay.rebuild", run.record.run_id, None, audit_details(run.record)) as outcome,
        open_rebuild(
            run.settings, run.reader, run.record.plan, restore_owners=_OWNERS in run.record.options
        ) as answers,
    ):
        yield Acting(answers.act, answers.counts, lambda: _complaint(answers.counts()["rows_not_restored"]))
        outcome.update({name: str(number) for name, number in answers.counts().items()})


def _complaint(rows: int) -> str | None:
    return f"{rows} rows lie under a deletion that is younger than this rebuild: run it again" if rows else None
