"""Turns while the usage sink and inference are killed, and whether three parties add up to the same usage.

What the clients' usage chunks said, what lies on ``usage.events.v1``, and what is in the Parquet files. Run as
``python -m tests.faults.usage_sums``, it starts a stack of its own; the short form is in ``tests/e2e``.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, Final, NamedTuple

from openai import AsyncOpenAI
from openai.types.completion_usage import CompletionUsage

from bench.machine import RESULTS, describe_machine
from schemas.bills import cost_nano_usd
from schemas.events import Usage
from schemas.models import DEFAULT_CATALOGUE
from tests.faults.run import POLICY
from tests.support.full_stack import MODEL, FullStack, eventually, full_stack
from tests.support.topic_scan import LogRecord
from turnstream.telemetry.logging import configure_logging
from turnstream.usage_reports.reading import NoFiles, UsageFiles

TARGETS: Final = ("usage-sink", "inference")
CLIENTS: Final = 16
USERS: Final = 6
SETTLE_SECONDS_MAX: Final = 90.0
PRICE: Final = next(card.price for card in DEFAULT_CATALOGUE if card.id == MODEL)
# Short and quick turns, and among them some that a death of inference hits in the middle.
QUESTIONS: Final = tuple(
    f"[[demo first_ms=0 gap_ms={gap_ms} tokens={tokens}]] Count, please."
    for gap_ms, tokens in ((0, 5), (0, 9), (0, 5), (40, 17), (0, 12))
)


class Sums(NamedTuple):
    """What one party counts; ``cost`` in billionths of a dollar."""

    turns: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost: int


@dataclass
class Outcome:
    """The three sums, and what a reader without the views would see."""

    clients: Sums
    log: Sums
    files: Sums
    bills_on_log: int
    rows_in_files: int
    rows_twice_in_files: int
    parquet_files: int
    kills: dict[str, int]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether all three agree, and no record of the log is in the files twice."""
        return self.clients == self.log == self.files and not self.rows_twice_in_files


@dataclass
class Load:
    """The turns of one run: who asks, and what they saw."""

    stack: FullStack
    turns: int
    kill_every: int
    users: tuple[str, ...]
    on_progress: Callable[[int, str | None], None] = lambda _turns, _killed: None
    seen: dict[str, Usage] = field(default_factory=dict)
    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TARGETS, 0))

    async def run(self) -> None:
        """All turns, with a kill of both processes of a target after every ``kill_every``."""
        numbers, targets = iter(range(self.turns)), cycle(TARGETS)
        async with AsyncExitStack() as open_clients:
            clients = [
                await open_clients.enter_async_context(self.stack.client(await self.stack.new_key("enterprise", user)))
                for user in self.users
            ]
            async with asyncio.TaskGroup() as work:
                for place in range(CLIENTS):
                    work.create_task(self._ask_on(clients[place % len(clients)], numbers, targets))

    async def _ask_on(self, client: AsyncOpenAI, numbers: Iterator[int], targets: Iterator[str]) -> None:
        for number in numbers:
            turn_id, usage = await ask(client, QUESTIONS[number % len(QUESTIONS)])
            self.seen[turn_id] = usage
            killed = None
            if number % self.kill_every == self.kill_every // 2:
                killed = next(targets)
                await self._kill(killed)
            self.on_progress(len(self.seen), killed)

    async def _kill(self, target: str) -> None:
        pids = {part: self.stack.send_signal(part, signal.SIGKILL) for part in (target, f"{target}-2")}
        self.kills[target] += len(pids)
        for part, pid in pids.items():
            await self.stack.replaced(part, pid)


async def ask(client: AsyncOpenAI, question: str) -> tuple[str, Usage]:
    """One streamed turn, to its usage chunk. Raises AssertionError when there is none."""
    usage: CompletionUsage | None = None
    turn_id = ""
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in stream:
        turn_id, usage = chunk.id.removeprefix("chatcmpl-"), chunk.usage or usage
    if usage is None:
        raise AssertionError(f"turn {turn_id} ended without its usage")
    details = usage.prompt_tokens_details
    cached = (details.cached_tokens or 0) if details else 0
    return turn_id, Usage(
        prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens, cached_tokens=cached
    )


async def compare(load: Load) -> Outcome:
    """Wait until the log and the files have every turn, then add up."""
    begun_s = time.monotonic()
    await load.run()
    # The stores' side is looked at once it can be complete; what is then missing stays missing.
    await eventually(lambda: _has_all(load), SETTLE_SECONDS_MAX)
    bills = _bills(load, await load.stack.records())
    read = await asyncio.to_thread(_read_files, load)
    return Outcome(
        clients=sums_of(load.seen.values()),
        log=_counted(bills),
        bills_on_log=len(bills),
        kills=load.kills,
        seconds=round(time.monotonic() - begun_s, 1),
        **read,
    )


def sums_of(usages: Iterable[Usage]) -> Sums:
    """What usage chunks add up to; the cost by the catalogue."""
    chunks = tuple(usages)
    return Sums(
        len(chunks),
        sum(each.prompt_tokens for each in chunks),
        sum(each.cached_tokens for each in chunks),
        sum(each.completion_tokens for each in chunks),
        sum(cost_nano_usd(each, PRICE) for each in chunks),
    )


def _bills(load: Load, records: Sequence[LogRecord]) -> list[dict[str, Any]]:
    """The bills of this run, in the order of the log; other tests may use the same stack, and poison it."""
    users = [user.encode() for user in load.users]
    ours = [record for record in records if record.topic == "usage.events.v1" and record.key in users]
    return [json.loads(record.value) for record in ours]


def _counted(bills: Sequence[dict[str, Any]]) -> Sums:
    by_turn: dict[str, dict[str, Any]] = {}
    for bill in bills:
        before = by_turn.get(bill["turn_id"])
        if before is None or (before["attempt"] == 0 and bill["attempt"] > 0):
            by_turn[bill["turn_id"]] = bill
    usages = [bill["usage"] for bill in by_turn.values()]
    return Sums(
        len(by_turn),
        sum(each["prompt_tokens"] for each in usages),
        sum(each.get("cached_tokens", 0) for each in usages),
        sum(each["completion_tokens"] for each in usages),
        sum(bill["cost_nano_usd"] for bill in by_turn.values()),
    )


async def _has_all(load: Load) -> bool:
    try:
        found = await asyncio.to_thread(_read_files, load)
    except NoFiles:
        return False
    return bool(found["files"].turns >= len(load.seen))


def _read_files(load: Load) -> dict[str, Any]:
    url = load.stack.stack.environment()["TURNSTREAM_USAGE_SINK__URL"]
    lake = UsageFiles(url, {})
    users = ", ".join(f"'{user}'" for user in load.users)
    ours = f"WHERE user_id IN ({users})"
    names = ("input_tokens", "cached_tokens", "output_tokens", "cost_nano_usd")
    totals = ", ".join(f"coalesce(sum({name}), 0)::BIGINT" for name in names)
    (sums,) = lake.ask(f"SELECT count(*), {totals} FROM usage {ours}").rows  # noqa: S608 - users of the test
    places = "count(DISTINCT (log_partition, log_offset))"
    (raw,) = lake.ask(f"SELECT count(*), count(*) - {places} FROM usage_rows {ours}").rows  # noqa: S608 - the same
    folder = Path(url.removeprefix("file://"))
    return {
        "files": Sums(*sums),
        "rows_in_files": raw[0],
        "rows_twice_in_files": raw[1],
        "parquet_files": sum(1 for _ in folder.rglob("*.parquet")),
    }


def main() -> int:
    """Start a stack, run, print and keep the figures. 0: all three agree; 1: they do not."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.usage_sums", description=__doc__)
    parser.add_argument("--turns", type=int, default=1000)
    parser.add_argument("--kill-every", type=int, default=100, help="turns between two kills")
    options = parser.parse_args()

    def tell(turns: int, killed: str | None) -> None:
        if killed is not None:
            sys.stderr.write(json.dumps({"turns": turns, "killed": killed}) + "\n")

    # Standard output is the result alone.
    configure_logging("usage-sums", "error", as_json=True)
    home = Path(tempfile.mkdtemp(prefix="turnstream-usage-")) / "home"
    with full_stack(home, replicas=2, policy=POLICY) as stack:
        users = tuple(f"payer-{number}" for number in range(USERS))
        load = Load(stack, options.turns, options.kill_every, users, tell)
        outcome = asyncio.run(compare(load))
    results = {**asdict(outcome), "holds": outcome.holds}
    for party in ("clients", "log", "files"):
        results[party] = getattr(outcome, party)._asdict()
    sys.stdout.write(json.dumps(results, indent=2) + "\n")
    RESULTS.mkdir(exist_ok=True)
    kept = {
        "command": f"make usage-faults TURNS={options.turns}",
        "machine": describe_machine(),
        "results": results,
    }
    (RESULTS / "usage-sums.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return 0 if outcome.holds else 1


if __name__ == "__main__":
    sys.exit(main())
