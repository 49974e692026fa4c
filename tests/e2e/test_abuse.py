"""The ladder on the whole stack: whoever goes too far is slowed, then kept out, and let down by an operator."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

from schemas.ids import parse_turn_id
from tests.support.full_stack import MODEL, FullStack, eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

BLOCKED = "turnstream-blocked-phrase"
# The defaults: slow from 10 blocked inputs on, suspend from 30 on.
ENOUGH_TO_BE_SLOWED = 12
ENOUGH_TO_BE_SUSPENDED = 32
SIGNAL_SECONDS_MAX = 90
CLIENT = "93.184.216.34"


async def ask(client: httpx2.AsyncClient, text: str = "[[demo first_ms=0 gap_ms=0 tokens=5]]") -> httpx2.Response:
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
    return await client.post("/chat/completions", json=body)


async def misbehave(client: httpx2.AsyncClient, times: int) -> None:
    answers = await asyncio.gather(*(ask(client, BLOCKED) for _ in range(times)))
    assert {answer.status_code for answer in answers} == {400}


def standing(turnstream: FullStack, user: str) -> dict[str, Any]:
    shown = turnstream.command("abuse", "show", user, "--tenant", "acme", "--json")
    found: dict[str, Any] = json.loads(shown.stdout) if shown.returncode == 0 else {}
    return found


async def test_a_user_whose_inputs_are_blocked_is_suspended_until_an_operator_lifts_it(turnstream: FullStack) -> None:
    async with turnstream.wire(await turnstream.new_key("free", "rude")) as client:
        await misbehave(client, ENOUGH_TO_BE_SUSPENDED)

        async def kept_out() -> httpx2.Response | None:
            answer = await ask(client)
            return answer if answer.status_code == 403 else None

        refused = await eventually(kept_out, SIGNAL_SECONDS_MAX)
        assert refused is not None
        error = refused.json()["error"]
        assert (error["type"], error["code"], error["param"]) == ("permission_error", "account_suspended", None)
        assert 0 < int(refused.headers["retry-after"]) <= 3_600
        shown = standing(turnstream, "rude")
        assert (shown["stands_on"], shown["causes"]) == ("suspend", ["blocked_inputs"])
        assert {evidence["kind"] for evidence in shown["evidence"]} == {"blocked_input"}
        # Nobody else of the tenant is concerned.
        async with turnstream.wire(await turnstream.new_key("free", "polite")) as other:
            assert (await ask(other)).status_code == 200

        lifted = turnstream.command("abuse", "lift", "rude", "--tenant", "acme", "--reason", "a test")
        assert (lifted.returncode, lifted.stdout) == (0, "lifted\n")

        async def let_in() -> bool:
            return (await ask(client)).status_code == 200

        assert await eventually(let_in, SIGNAL_SECONDS_MAX)
    audit = turnstream.command("audit", "list", "--action", "abuse.lift", "--json")
    assert [json.loads(line)["subject"] for line in audit.stdout.splitlines()] == ["acme/rude"] * 2


async def test_a_slowed_user_has_few_requests_a_minute(turnstream: FullStack) -> None:
    async with turnstream.wire(await turnstream.new_key("free", "pushy")) as client:
        await misbehave(client, ENOUGH_TO_BE_SLOWED)

        async def slowed() -> httpx2.Response | None:
            answer = await ask(client)
            return answer if answer.status_code == 429 else None

        refused = await eventually(slowed, SIGNAL_SECONDS_MAX)
    assert refused is not None
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert refused.headers["x-ratelimit-limit-requests"] == "6"


async def test_an_address_is_on_no_topic_but_the_turn_and_its_bill_have_one_origin(turnstream: FullStack) -> None:
    async with turnstream.wire() as client:
        client.headers["x-forwarded-for"] = f"10.1.2.3, {CLIENT}"
        answer = await ask(client)
        assert answer.status_code == 200
    async with turnstream.wire() as client:
        without = await ask(client)
    turn_id = parse_turn_id(answer.headers["x-request-id"])

    async def billed() -> list[str]:
        records = [record for record in await turnstream.records_of(turn_id) if record.topic.startswith("usage.events")]
        return [json.loads(record.value)["origin"] for record in records]

    (origin, *_) = await eventually(billed)
    by_topic = {record.topic: json.loads(record.value) for record in await turnstream.records_of(turn_id)}
    assert by_topic["chat.turns.submitted.v1"]["turn"]["origin"] == origin
    assert len(origin) == 16
    records = await turnstream.records()
    assert not [record.topic for record in records if CLIENT.encode() in record.value]
    direct = [
        json.loads(record.value)
        for record in records
        if record.topic == "chat.turns.submitted.v1"
        and record.turn_id == parse_turn_id(without.headers["x-request-id"])
    ]
    # From this machine itself, through no proxy: there is no public address.
    assert [submitted["turn"].get("origin") for submitted in direct] == [None]
