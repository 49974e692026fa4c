"""How every mode of ``turnstream replay`` goes: look up, plan, show, and with ``--execute`` act and sum up."""

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from consumers.retry import RetryPolicy
from producers.replay.checkpoint import Checkpoint, RunRecord, checkpoint_path, new_run_id
from producers.replay.joins import resolve
from producers.replay.pace import Pace
from producers.replay.plan import OnProgress, Plan, make_plan
from producers.replay.run import Act, Summary, replay
from producers.replay.selection import Selection
from schemas.errors import Fatal, Malformed, Retryable
from schemas.ports import LogReader, Record
from turnstream.audit.actor import NotAllowedError
from turnstream.clocks import now_ms
from turnstream.commands.exits import Exit, fail
from turnstream.commands.replay_options import ReplayOptions
from turnstream.commands.replay_output import ProgressDisplay, note, show_plan, show_summary
from turnstream.commands.running_stack import fail_unreachable, require_settings
from turnstream.exception_groups import leaves
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.settings import Settings
from turnstream.wiring.replay import TopicPartitions, find_partitions, prices

_ENTROPY_BYTES: Final = 3
# A store that is restarted answers again within it; then the run ends and can be resumed.
RETRY: Final = RetryPolicy(attempts_max=10, total_seconds_max=20)


@dataclass(frozen=True, slots=True)
class Acting:
    """What a mode does with records, what it counts for the summary, and what it must be failed for in the end."""

    act: Act
    counts: Callable[[], Mapping[str, int]] = dict
    complaint: Callable[[], str | None] = lambda: None


@dataclass(frozen=True, slots=True)
class Run:
    """What a mode is given when it begins to act."""

    settings: Settings
    reader: LogReader
    record: RunRecord


Narrow = Callable[[LogReader, TopicPartitions, Selection, OnProgress], Awaitable[Selection]]


@dataclass(frozen=True, slots=True)
class ReplayMode:
    """One mode: its name, how it begins to act, and what of it a resumed run must know (``options``).

    ``topic`` is read when no option says which; ``narrow`` turns a selection into the one that is planned.
    """

    name: str
    begin: Callable[[Run], AbstractAsyncContextManager[Acting]]
    options: Mapping[str, str] = field(default_factory=dict)
    topic: str | None = None
    narrow: Narrow | None = None


def run_replay(options: ReplayOptions, mode: ReplayMode | None) -> None:
    """Plan and, with ``--execute``, act; without a mode there is the plan alone. Ends the command when it cannot.

    Exit codes: 0 done or planned, 2 a wrong option, 3 a dependency that does not answer, 4 nothing is meant, 130
    interrupted. A run that was cut off says how to go on with it.
    """
    settings = require_settings()
    if options.resume is not None:
        if options.selects():
            fail("--resume goes on with what was selected then: give it alone", Exit.BAD_INPUT)
        selection = None
    else:
        selection = options.selection(now_ms(), mode.topic if mode else None)
    failure: BaseException | None = None
    try:
        asyncio.run(_Session(settings, options, mode).run(selection))
    except* (Retryable, Fatal, Malformed, NotAllowedError, ValueError, OSError, KeyboardInterrupt) as group:
        failure = leaves(group)[0]
    if isinstance(failure, Retryable):
        fail_unreachable(str(failure))
    if failure is not None:
        fail(str(failure) or "interrupted", _exit_code(failure))


def _exit_code(failure: BaseException) -> Exit:
    if isinstance(failure, KeyboardInterrupt):
        return Exit.INTERRUPTED
    if isinstance(failure, ValueError | NotAllowedError):
        return Exit.BAD_INPUT
    return Exit.FAILED


class _Session:
    """One invocation of the command."""

    def __init__(self, settings: Settings, options: ReplayOptions, mode: ReplayMode | None) -> None:
        self._settings = settings
        self._options = options
        self._mode = mode
        self._display = ProgressDisplay()

    async def run(self, selection: Selection | None) -> None:
        """Go on with the run that is resumed, which is what no selection means, or plan and perhaps begin one."""
        async with KafkaLogReader(self._settings.kafka) as reader:
            if selection is None:
                mode, checkpoint = await asyncio.to_thread(self._resumed)
                await self._act(reader, mode, checkpoint)
            else:
                await self._begin(reader, await self._plan(reader, selection))

    async def _begin(self, reader: LogReader, plan: Plan) -> None:
        acts = self._mode is not None and self._options.execute
        if not acts:
            show_plan(plan, as_json=self._options.as_json)
        if not plan.selected:
            fail("no record is meant by this selection", Exit.NOT_FOUND)
        if self._mode is not None and acts:
            await self._act(reader, self._mode, await asyncio.to_thread(self._begun, self._mode, plan))
        elif self._mode is not None:
            note("nothing was done: --execute acts")

    async def _plan(self, reader: LogReader, selection: Selection) -> Plan:
        partitions_of = await find_partitions(self._settings)
        with self._display as on_progress:
            wanted = await resolve(reader, partitions_of, selection, on_progress)
            if self._mode is not None and self._mode.narrow is not None:
                wanted = await self._mode.narrow(reader, partitions_of, wanted, on_progress)
            return await make_plan(
                reader, partitions_of(wanted.topic), wanted, on_progress, prices=prices(self._settings)
            )

    def _begun(self, mode: ReplayMode, plan: Plan) -> Checkpoint:
        started_ms = now_ms()
        run_id = new_run_id(mode.name, started_ms, secrets.token_bytes(_ENTROPY_BYTES))
        record = RunRecord(run_id=run_id, mode=mode.name, plan=plan, options=mode.options, started_ms=started_ms)
        return Checkpoint.begin(checkpoint_path(self._settings.replay.folder, run_id), record)

    def _resumed(self) -> tuple[ReplayMode, Checkpoint]:
        checkpoint = Checkpoint.load(checkpoint_path(self._settings.replay.folder, self._options.resume or ""))
        if self._mode is None or checkpoint.run.mode != self._mode.name:
            raise ValueError(f"run {checkpoint.run.run_id} is of the mode {checkpoint.run.mode}")
        return self._mode, checkpoint

    async def _act(self, reader: LogReader, mode: ReplayMode, checkpoint: Checkpoint) -> None:
        run, began_s = checkpoint.run, time.monotonic()
        note(f"run {run.run_id}; if it is cut off: turnstream replay {run.mode} --resume {run.run_id}")
        async with mode.begin(Run(self._settings, reader, run)) as acting:
            summary = await self._replay(reader, acting, checkpoint)
            complaint = acting.complaint()
        show_summary(summary, time.monotonic() - began_s, as_json=self._options.as_json)
        if complaint is not None:
            fail(complaint)

    async def _replay(self, reader: LogReader, acting: Acting, checkpoint: Checkpoint) -> Summary:
        with self._display as on_progress:
            summary = await replay(
                reader,
                checkpoint.run.plan,
                retrying(acting.act, RETRY),
                checkpoint=checkpoint,
                pace=Pace(self._options.rate, time.monotonic),
                on_progress=on_progress,
            )
        return summary.model_copy(update={"counts": dict(acting.counts())})


def audit_details(run: RunRecord) -> dict[str, str]:
    """What an audit tells of a run: what was selected, but not the filter, which may quote what somebody wrote."""
    selection = run.plan.selection.model_dump(mode="json", exclude_none=True, exclude={"turns", "where"})
    details = {name: str(value) for name, value in selection.items()}
    return {"records": str(run.plan.selected), **details, **run.options}


def retrying(act: Act, policy: RetryPolicy) -> Act:
    """``act``, given a batch again for as long as ``policy`` allows while it raises Retryable."""

    async def again(records: Sequence[Record]) -> None:
        waited_s = 0.0
        for attempt in count(1):
            try:
                await act(records)
                break
            except Retryable:
                if policy.exhausted(attempt, waited_s):
                    raise
                delay_s = policy.delay_s(attempt, random.random())  # noqa: S311 - no secret
                waited_s += delay_s
                await asyncio.sleep(delay_s)

    return again
