"""One run: a stack of two of each process, clients on both edges, faults, a dump, and the verdict."""

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tests.faults.checker import check
from tests.faults.clients import Client
from tests.faults.collect import read_dump, settle
from tests.faults.dump import write_dump
from tests.faults.edge_client import EdgeClient, open_wire
from tests.faults.inject import Injector
from tests.faults.operations import OperationLog
from tests.faults.pace import Pace
from tests.faults.report import Report, summarize
from tests.faults.schedule import EDGES, REPLICAS, Fault, ScheduleSettings, plan_faults
from tests.faults.turn_plans import plan_turn
from turnstream.local_stack.plan import StackOptions
from turnstream.local_stack.ports import LOOPBACK
from turnstream.local_stack.processes import PROCESSES, OurProcess, replicated
from turnstream.local_stack.restart import RestartPolicy
from turnstream.local_stack.settings import StackSettings
from turnstream.local_stack.stack import Stack

CLIENTS: Final = 12
OPERATIONS_FILE: Final = "operations.jsonl"
DUMP_FILE: Final = "dump.jsonl"
# What dies on purpose is no sign of a defect: it is started again at once, however often.
POLICY: Final = RestartPolicy(delay_s_first=0.05, delay_s_max=0.5, restarts_per_window_max=100_000)
SETTINGS: Final[Mapping[str, str]] = {
    "TURNSTREAM_SSE__HEARTBEAT_SECONDS": "1",
    # A client of ours comes back within its patience, and its answer has to be there.
    "TURNSTREAM_SSE__ABANDON_GRACE_SECONDS": "60",
    "TURNSTREAM_PLANS": json.dumps(
        {
            plan: {"models": models, "requests_per_minute": 1_000_000, "tokens_per_minute": 1_000_000_000}
            for plan, models in (
                ("enterprise", ["turnstream-fast", "turnstream-capable"]),
                ("free", ["turnstream-fast"]),
            )
        }
    ),
}


@dataclass(frozen=True)
class RunOptions:
    """``folder`` gets the operation log and the dump; ``on_progress`` hears of turns begun and faults done."""

    turns: int
    seed: int
    folder: Path
    clients: int = CLIENTS
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    on_progress: Callable[[int, Fault | None], None] = lambda _turns, _fault: None


def run(options: RunOptions) -> Report:
    """Start a stack, run, check, stop it. Raises StackError when the stack does not start."""
    faults = plan_faults(options.seed, options.turns, options.schedule)
    options.folder.mkdir(parents=True, exist_ok=True)
    with _stack(options.folder / "home") as stack:
        return asyncio.run(run_on(stack, faults, options))


async def run_on(stack: Stack, faults: tuple[Fault, ...], options: RunOptions) -> Report:
    """The same on a stack that runs."""
    with OperationLog(options.folder / OPERATIONS_FILE) as log:
        await _load(stack, faults, options, log)
        await settle(stack.endpoints.kafka or "")
        dump = await read_dump(stack)
    await asyncio.to_thread(write_dump, options.folder / DUMP_FILE, dump)
    return summarize(log.operations, dump, check(log.operations, dump))


async def _load(stack: Stack, faults: tuple[Fault, ...], options: RunOptions, log: OperationLog) -> None:
    pace = Pace(options.turns)
    urls = tuple(f"http://{LOOPBACK}:{stack.part(edge).port}/v1" for edge in EDGES)
    injector = Injector(stack, log, lambda fault: options.on_progress(pace.begun, fault))
    async with open_wire(stack.endpoints.key or "") as wire, asyncio.TaskGroup() as work:
        edges = EdgeClient(urls, wire, log)
        work.create_task(injector.run(faults, pace))
        for number in range(options.clients):
            work.create_task(_turns_of(Client(number, edges, log), pace, options))


async def _turns_of(client: Client, pace: Pace, options: RunOptions) -> None:
    while (number := await pace.begin()) is not None:
        options.on_progress(pace.begun, None)
        await client.turn(plan_turn(options.seed, number))


@contextmanager
def _stack(home: Path) -> Iterator[Stack]:
    rows = replicated(tuple(_with_settings(row) for row in PROCESSES), REPLICAS)
    settings = StackSettings(home=home, jars=StackSettings().layout().jars)
    with Stack(settings, StackOptions(processes=rows), policy=POLICY) as stack:
        yield stack
    # Commit logs and segments: large, and nobody reads them any more.
    shutil.rmtree(stack.layout.data)


def _with_settings(row: OurProcess) -> OurProcess:
    # `env` becomes the process, so its pid stays.
    return replace(row, argv=("env", *(f"{name}={value}" for name, value in SETTINGS.items()), *row.argv))
