"""One run: load and faults at once, then what is left of it."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

from tests.chaos.checker import Run, Violation, check
from tests.chaos.clients import SILENCE_SECONDS_MAX, Client
from tests.chaos.dumps import dump
from tests.chaos.inject import Injected, Injector
from tests.chaos.operations import Operation, OperationLog
from tests.chaos.schedule import Fault
from tests.chaos.workload import EDGES, TurnPlan
from tests.support.full_stack import FullStack
from turnstream.local_stack.restart import RestartPolicy

# Real times, where the end-to-end tests have short ones; and no line per event in the logs.
SETTINGS: Final[Mapping[str, str]] = {
    "TURNSTREAM_SSE__HEARTBEAT_SECONDS": "5",
    "TURNSTREAM_SSE__TICK_SECONDS": "0.05",
    "TURNSTREAM_SSE__ABANDON_GRACE_SECONDS": "30",
    "TURNSTREAM_LOG__LEVEL": "info",
}
# The harness crashes processes all the time: that is no reason to give them up.
POLICY: Final = RestartPolicy(delay_s_first=0.1, delay_s_max=0.1, restarts_per_window_max=10_000)
# So many faults may be due before clients wait for them: else the load would be over before they happen.
BEHIND_MAX: Final = 3
POLL_SECONDS: Final = 0.02


@dataclass(frozen=True)
class Result:
    """What happened, and what is wrong with it."""

    operations: Sequence[Operation]
    injected: Sequence[Injected]
    violations: Sequence[Violation]
    seconds: float


async def run(
    stack: FullStack,
    plans: Sequence[TurnPlan],
    schedule: Sequence[Fault],
    *,
    seed: int,
    log_file: Path,
    on_progress: Callable[[int, int], None],
) -> Result:
    """Run everything to its end. ``on_progress`` gets the numbers of turns begun and of faults done."""
    started_s = time.monotonic()
    injector = Injector(stack.stack, schedule)
    key = await stack.new_key("enterprise", f"chaos-{seed}")
    with log_file.open("w", encoding="utf-8") as file:
        log = OperationLog(file)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(injector.run())
            tasks.create_task(_load(stack, key, plans, injector, log, seed, on_progress))
    left = await dump(stack.stack)
    violations = check(Run.of(log.operations, left))
    return Result(log.operations, injector.injected, violations, time.monotonic() - started_s)


async def _load(  # noqa: PLR0917 - the parts of a run
    stack: FullStack,
    key: str,
    plans: Sequence[TurnPlan],
    injector: Injector,
    log: OperationLog,
    seed: int,
    on_progress: Callable[[int, int], None],
) -> None:
    urls = {edge: stack.url_of(edge) for edge in EDGES}
    by_client: dict[int, list[TurnPlan]] = defaultdict(list)
    for plan in plans:
        by_client[plan.client].append(plan)
    timeout = httpx2.Timeout(5, read=SILENCE_SECONDS_MAX)
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=50)
    headers = {"authorization": f"Bearer {key}"}

    async def one_client(client: Client, own: Sequence[TurnPlan]) -> None:
        for plan in own:
            while injector.behind > BEHIND_MAX:  # noqa: ASYNC110 - the injector does not tell
                await asyncio.sleep(POLL_SECONDS)
            injector.begun_turns += 1
            on_progress(injector.begun_turns, len(injector.injected))
            await client.take_turn(plan)

    async with (
        httpx2.AsyncClient(timeout=timeout, limits=limits, headers=headers) as http,
        asyncio.TaskGroup() as tasks,
    ):
        for number, own in by_client.items():
            tasks.create_task(one_client(Client(number, urls, http, log, seed), own))
