"""Shadow runs on the whole stack: the exact difference, and bills, history and limits as they were.

``TURNSTREAM_TEST_SHADOW_TURNS`` sets how many turns are recorded.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import openai
import pyarrow.parquet as pq
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from schemas.headers import REPLAY
from schemas.shadow import run_of
from schemas.topics import BY_NAME
from tests.support.full_stack import MODEL, SETTLE_SECONDS_MAX, FullStack, eventually
from tests.support.topic_scan import LogRecord

TURNS: Final = int(os.environ.get("TURNSTREAM_TEST_SHADOW_TURNS", "60"))
pytestmark = [pytest.mark.integration, pytest.mark.timeout(180 + TURNS)]
AT_ONCE: Final = 12
PAUSE_S: Final = 0.5
BLOCKED: Final = "turnstream-blocked-phrase"
# Few: whoever is blocked often climbs the ladder of abuse.
REFUSED: Final = (0, 7, 14, 35)
QUICK: Final = "[[demo first_ms=0 gap_ms=0 tokens=5]]"
RULES: Final = '[[deny]]\nid = "no-zebras"\ncategory = "animals"\nterms = ["zebra"]\n'


async def unless_overloaded(call: Callable[[], Awaitable[ChatCompletion]]) -> ChatCompletion:
    """The answer; a busy machine that says 503 is asked again, and of such a request nothing is on the log."""
    while True:
        try:
            return await call()
        except openai.InternalServerError:
            await asyncio.sleep(PAUSE_S)


async def ask_all(client: AsyncOpenAI) -> list[str | None]:
    """The turn ids, by number; None where the turn was refused. Every fifth has a zebra."""
    room = asyncio.Semaphore(AT_ONCE)

    async def ask(number: int) -> str | None:
        text = f"{number}{' zebra' * (number % 5 == 0)}{f' {BLOCKED}' * (number in REFUSED)} {QUICK}"
        async with room:
            try:
                answer = await unless_overloaded(
                    lambda: client.chat.completions.create(
                        model=MODEL, messages=[{"role": "user", "content": text}], extra_body={"store": number % 3 == 0}
                    )
                )
            except openai.BadRequestError:
                return None
        return answer.id.removeprefix("chatcmpl-")

    return list(await asyncio.gather(*(ask(number) for number in range(TURNS))))


async def live(turnstream: FullStack, user: str) -> list[LogRecord]:
    """All records of this user's turns on the live topics."""
    records = await turnstream.records()
    mine = {record.turn_id for record in records if f'"{user}"'.encode() in record.value} - {None}
    return [record for record in records if record.topic in BY_NAME and record.turn_id in mine]


def places(records: Sequence[LogRecord]) -> list[tuple[str, int, int]]:
    return sorted((record.topic, record.partition, record.offset) for record in records)


async def settled(turnstream: FullStack, user: str) -> list[LogRecord]:
    """The same, once every turn is billed, settled and, if it is kept, persisted."""
    kept = len([number for number in range(TURNS) if number % 3 == 0 and number not in REFUSED])

    async def complete() -> list[LogRecord]:
        found = await live(turnstream, user)
        names = [record.topic for record in found]
        # Reserved and settled, for the refused ones too.
        whole = names.count("usage.events.v1") == TURNS and names.count("limits.ledger.v1") == 2 * TURNS
        persisted = sum(b'"type":"persisted"' in record.value for record in found)
        return found if whole and persisted == kept else []

    return await eventually(complete, 2 * SETTLE_SECONDS_MAX)


def told(turnstream: FullStack, *arguments: str) -> Any:
    done = turnstream.command("replay", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def record(turnstream: FullStack, rules: Path, user: str) -> dict[str, Any]:
    """Run the shadow over all of the user's turns: planned, then done; its summary."""
    rules.write_text(RULES)
    chosen = ("shadow", "--from-stage", "auth", "--user", user, "--policy", str(rules))
    assert told(turnstream, *chosen)["selected"] == TURNS
    summary: dict[str, Any] = told(turnstream, *chosen, "--execute")
    return summary


def check(diff: Any, turns: Sequence[str | None]) -> None:
    """Zebras are blocked now; what was blocked before and has one breaks two rules now; nothing else differs."""
    flipped = {turns[number] for number in range(TURNS) if number % 5 == 0 and number not in REFUSED}
    changes = {row["turn_id"]: row["changes"] for row in diff["turns"]}
    assert {row["turn_id"] for row in diff["turns"] if row["flip"] == "allowed -> blocked_input"} == flipped
    assert all(found == (["decision", "rules"] if turn in flipped else ["rules"]) for turn, found in changes.items())
    both = len([number for number in REFUSED if number % 5 == 0])
    assert diff["summary"]["changes"] == {"decision": len(flipped), "rules": len(flipped) + both}
    assert diff["summary"]["unchanged"] == TURNS - len(flipped) - both


async def seen(client: AsyncOpenAI) -> list[Any]:
    """What the user can see: the bills, and every conversation with its messages."""
    usage = await client.get("/organization/usage/completions?start_time=0", cast_to=dict[str, Any])
    listed = await client.get("/conversations", cast_to=dict[str, Any])
    items = [
        await client.get(f"/conversations/{one['id']}/items", cast_to=dict[str, Any]) for one in listed["data"][:5]
    ]
    assert items
    return [usage, listed, items]


async def test_recorded_turns_through_another_policy(turnstream: FullStack, tmp_path: Path) -> None:
    user = "shadowed"
    async with turnstream.client(await turnstream.new_key("enterprise", user)) as client:
        turns = await ask_all(client)
        before = await settled(turnstream, user)
        shown = await seen(client)
        summary = await asyncio.to_thread(record, turnstream, tmp_path / "rules.toml", user)
        assert summary["counts"] == {"turns": TURNS, "unreadable": 0, "passed_over": 0}
        run, file = summary["run_id"], tmp_path / "diff.parquet"
        check(await asyncio.to_thread(told, turnstream, "diff", run, "--parquet", str(file)), turns)
        assert pq.read_table(file).num_rows == TURNS
        # Not one record more: no bill, no message, nothing of the limiter, nothing for a user. And it looks the same.
        assert places(await live(turnstream, user)) == places(before)
        assert await seen(client) == shown
    own = [one for one in await turnstream.records() if run_of(one.topic) == run]
    assert {one.headers.get(REPLAY) for one in own} == {run}
    dropped = await asyncio.to_thread(turnstream.command, "replay", "shadows", "--drop", run)
    assert dropped.returncode == 0, dropped.stderr
    gone = await asyncio.to_thread(turnstream.command, "replay", "diff", run)
    assert gone.returncode == 4
