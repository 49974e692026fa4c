"""Dead letters on the whole stack: poisoned turns are mended, driven back, and each is answered and billed once."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import pytest
from openai import AsyncOpenAI

from schemas import headers
from schemas.tokens import Finished
from schemas.topics import (
    INFERENCE_REQUESTS,
    TOKENS,
    TURNS_ADMITTED,
    TURNS_AUTHORIZED,
    TURNS_PROMPTED,
    TURNS_SUBMITTED,
    USAGE_EVENTS,
    Topic,
)
from tests.support.full_stack import MODEL, RECOVERY_SECONDS_MAX, FullStack, command_environment, eventually
from tests.support.poisoned_turns import (
    CAUSE,
    CURE,
    QUESTION,
    Row,
    new_turn,
    poisoned,
    poisoned_row,
    put,
    states,
    submitted,
    until_buried,
)
from tests.support.topic_scan import LogRecord

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

TURNS: Final = 100
PAST_AUTH: Final = (TURNS_AUTHORIZED, TURNS_ADMITTED, TURNS_PROMPTED, INFERENCE_REQUESTS["fast"])
ANSWERED: Final = [("user", "completed"), ("assistant", "completed")]
MENDED: Final = ("dlq", "redrive", "--cause", CAUSE, "--merge-patch", CURE, "--execute")


def redrive(turnstream: FullStack, *arguments: str) -> list[dict[str, Any]]:
    """The lines of a redrive that could do everything."""
    done = turnstream.command(*MENDED, *arguments, "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    return [line for line in map(json.loads, done.stdout.splitlines()) if "place" in line]


async def until_settled(turnstream: FullStack, turn_ids: frozenset[str]) -> list[LogRecord]:
    """The log once all of the turns are answered, stored and billed."""

    async def all_over() -> list[LogRecord] | None:
        records = await turnstream.records()
        found, billed = states(records), {record.turn_id for record in records if record.topic == USAGE_EVENTS.name}
        over = turn_ids <= billed and all(turn_id in found and found[turn_id].settled for turn_id in turn_ids)
        return records if over else None

    return await eventually(all_over, 2 * RECOVERY_SECONDS_MAX) or []


async def history(client: AsyncOpenAI, conversation_id: str) -> list[tuple[str, str]]:
    """Role and status of the messages, oldest first."""
    page = await client.get(f"/conversations/{conversation_id}/items?order=asc", cast_to=dict[str, Any])
    return [(item["role"], item["status"]) for item in page["data"]]


def driven(records: Sequence[LogRecord], topic: Topic) -> Counter[str | None]:
    """How often each turn was driven back to ``topic``."""
    return Counter(
        record.turn_id for record in records if record.topic == topic.name and headers.REDRIVE in record.headers
    )


def records_of(records: Sequence[LogRecord], topic: Topic, kind: str | None = None) -> Counter[str | None]:
    """How many records of ``topic`` each turn has, perhaps only those of one ``type``."""
    return Counter(
        record.turn_id
        for record in records
        if record.topic == topic.name and (kind is None or f'"type":"{kind}"'.encode() in record.value)
    )


async def cut_off(turnstream: FullStack) -> None:
    """Begin to redrive, slowly, and kill it on the way (SIGKILL)."""
    command = (sys.executable, "-m", "turnstream", *MENDED, "--topic", TURNS_SUBMITTED.name, "--rate", "2")
    running = subprocess.Popen(  # noqa: S603, ASYNC220 - our own command line
        command, env=command_environment(turnstream.home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:

        async def on_its_way() -> bool:
            return len(driven(await turnstream.records(), TURNS_SUBMITTED)) > 0

        await eventually(on_its_way, RECOVERY_SECONDS_MAX)
    finally:
        running.kill()
        running.wait()


async def test_a_hundred_poisoned_turns_are_answered_once(turnstream: FullStack) -> None:
    key = await turnstream.new_key("enterprise", "rosa")
    asked = [submitted(turnstream, key, number % 2) for number in range(TURNS)]
    rows = [poisoned_row(TURNS_SUBMITTED, event) for event in asked]
    await put(turnstream, rows)
    await until_buried(turnstream, rows)
    await cut_off(turnstream)
    topic = ("--topic", TURNS_SUBMITTED.name)
    first = await asyncio.to_thread(redrive, turnstream, *topic)
    assert 0 < len(first) < TURNS
    second = await asyncio.to_thread(redrive, turnstream, *topic, "--again")
    new_ids = {line["turn_id"]: line["new_turn_id"] for line in second}
    assert new_ids.keys() == {row.turn_id for row in rows}
    ours = frozenset(new_ids.values())
    assert len(ours) == TURNS
    records = await until_settled(turnstream, ours)
    found = states(records)
    assert {type(found[turn_id].terminal) for turn_id in ours} == {Finished}
    once = dict.fromkeys(ours, 1)
    assert {turn: n for turn, n in records_of(records, TOKENS, "finished").items() if turn in ours} == once
    assert {turn: n for turn, n in records_of(records, USAGE_EVENTS).items() if turn in ours} == once
    async with turnstream.client(key) as client:
        histories = await asyncio.gather(*(history(client, event.turn.conversation_id) for event in asked))
    assert histories == [ANSWERED] * TURNS


async def test_a_turn_that_died_past_auth_takes_its_place_in_the_conversation(turnstream: FullStack) -> None:
    key = await turnstream.new_key("enterprise", "paul")
    async with turnstream.client(key) as client:
        copies = [await died_on(turnstream, client, topic) for topic in PAST_AUTH]
        await put(turnstream, [row for rows in copies for row in rows])
        await until_buried(turnstream, [rows[-1] for rows in copies])
        ids = {row.turn_id for rows in copies for row in rows}
        lines = [line for line in await asyncio.to_thread(redrive, turnstream) if line["turn_id"] in ids]
        assert len(lines) == len(PAST_AUTH)
        new_ids = frozenset(line["new_turn_id"] for line in lines)
        found = states(await until_settled(turnstream, new_ids))
        assert {type(found[turn_id].terminal) for turn_id in new_ids} == {Finished}
        for topic, rows in zip(PAST_AUTH, copies, strict=True):
            assert await history(client, rows[-1].key) == ANSWERED * 2, topic.name
    for turn_id in (lines[0]["turn_id"], lines[0]["new_turn_id"]):
        told = await asyncio.to_thread(turnstream.command, "trace", turn_id, "--json")
        assert f"turn {lines[0]['turn_id']} is asked again as {lines[0]['new_turn_id']}" in told.stdout


async def died_on(turnstream: FullStack, client: AsyncOpenAI, topic: Topic) -> list[Row]:
    """A conversation with one answer, and the records of a second turn in it, of which that on ``topic`` is poisoned.

    They are those of the first turn under another id and a later place.
    """
    said = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}], store=True, extra_body={"store": True}
    )
    conversation_id = said.model_dump()["conversation_id"]
    old_id = said.id.removeprefix("chatcmpl-")
    turn_id = new_turn(0)

    async def stored() -> list[LogRecord] | None:
        records = await turnstream.records_of(old_id)
        return records if states(records).get(old_id) and states(records)[old_id].settled else None

    records = await eventually(stored) or []
    wanted = [record for record in records if record.topic == topic.name or _is_cleared(record)]
    rows = []
    for record in wanted:
        document = json.loads(record.value)
        answer_seq = document["message_seq"] + 1
        document["message_seq"] += 1 << 16
        if "parent_seq" in document:
            document["parent_seq"] = answer_seq
        if record.topic == topic.name:
            document["turn"] |= {"turn_id": turn_id, "starts_conversation": False}
            rows.append(Row(topic, turn_id, conversation_id, poisoned(document)))
        elif topic is INFERENCE_REQUESTS["fast"]:
            cleared = json.dumps({**document, "turn_id": turn_id}).encode()
            rows.insert(0, Row(TOKENS, turn_id, turn_id, cleared))
    return rows


def _is_cleared(record: LogRecord) -> bool:
    return record.topic == TOKENS.name and b'"type":"cleared"' in record.value
