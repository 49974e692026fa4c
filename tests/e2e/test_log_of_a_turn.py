"""What a turn leaves on the log and in the process logs, and what it must not leave there."""

import asyncio
import json
import secrets
from collections import Counter
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.support.full_stack import MODEL, FullStack, StreamedTurn, eventually
from tests.support.topic_scan import LogRecord

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

WAY_OF_A_TURN = {
    "chat.turns.submitted.v1": 1,
    "chat.turns.authorized.v1": 1,
    "chat.turns.admitted.v1": 1,
    "chat.turns.prompted.v1": 1,
    "inference.requests.fast.v1": 1,
    "moderation.decisions.v1": 1,
    "usage.events.v1": 1,
    # Reserved, and settled soon after the answer.
    "limits.ledger.v1": 2,
}


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


async def stream_turn(client: AsyncOpenAI, text: str, **headers: str) -> StreamedTurn:
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=user(text),
        stream=True,
        stream_options={"include_usage": True},
        extra_headers=headers,
        extra_body={"store": True},
    )
    return await StreamedTurn().read(stream)


def event(records: list[LogRecord], topic: str) -> dict[str, Any]:
    """The one event of a topic."""
    (record,) = [record for record in records if record.topic == topic]
    found: dict[str, Any] = json.loads(record.value)
    return found


async def test_a_turn_is_on_every_topic_once_and_bears_the_clients_trace(
    turnstream: FullStack, client: AsyncOpenAI
) -> None:
    trace_id = secrets.token_hex(16)
    turn = await stream_turn(client, "What is an offset?", traceparent=f"00-{trace_id}-{secrets.token_hex(8)}-01")

    async def settled() -> list[LogRecord]:
        found = await turnstream.records_of(turn.turn_id)
        return found if sum(record.topic == "limits.ledger.v1" for record in found) > 1 else []

    records = await eventually(settled)
    topics = Counter(record.topic for record in records)
    answer = [json.loads(record.value) for record in records if record.topic == "chat.tokens.v1"]
    assert {topic: count for topic, count in topics.items() if topic != "chat.tokens.v1"} == WAY_OF_A_TURN
    assert [kind["type"] for kind in answer if kind["type"] != "delta"] == [
        "cleared",
        "attempt_started",
        "finished",
        "persisted",
    ]
    assert "".join(piece["content"] for piece in answer if piece["type"] == "delta") == turn.text
    assert {record.headers.get("traceparent", "")[3:35] for record in records} == {trace_id}


async def test_usage_and_verdict_say_what_the_client_saw(turnstream: FullStack, client: AsyncOpenAI) -> None:
    turn = await stream_turn(client, "How much was that?")
    records = await turnstream.records_of(turn.turn_id)
    shown = turn.chunks[-1].usage
    usage, verdict = event(records, "usage.events.v1"), event(records, "moderation.decisions.v1")
    assert shown is not None
    assert usage["usage"]["prompt_tokens"] == shown.prompt_tokens
    assert usage["usage"]["completion_tokens"] == shown.completion_tokens
    assert (usage["turn_id"], usage["finish_reason"], usage["model"]) == (turn.turn_id, "stop", MODEL)
    assert 0 < usage["ttft_ms"] <= usage["duration_ms"]
    assert (verdict["turn_id"], verdict["decision"]) == (turn.turn_id, "allowed")


async def test_a_refused_turn_has_its_verdict_and_a_bill_of_nothing(turnstream: FullStack, client: AsyncOpenAI) -> None:
    trace_id = secrets.token_hex(16)
    with pytest.raises(openai.BadRequestError) as caught:
        await stream_turn(client, "turnstream-blocked-phrase", traceparent=f"00-{trace_id}-{secrets.token_hex(8)}-01")
    turn_id = caught.value.response.headers["x-request-id"].removeprefix("chatcmpl-")

    async def decided() -> list[LogRecord]:
        records = await turnstream.records_of(turn_id)
        topics = {record.topic for record in records}
        return records if {"moderation.decisions.v1", "usage.events.v1"} <= topics else []

    records = await eventually(decided)
    verdict, bill = event(records, "moderation.decisions.v1"), event(records, "usage.events.v1")
    assert (verdict["decision"], verdict["categories"], verdict["rules"]) == (
        "blocked_input",
        ["demo"],
        ["demo.phrase"],
    )
    assert (bill["attempt"], bill["usage"]["prompt_tokens"], bill["usage"]["completion_tokens"]) == (0, 0, 0)
    assert bill["finish_reason"] == "content_filter"
    assert "inference.requests.fast.v1" not in {record.topic for record in records}
    assert {record.headers.get("traceparent", "")[3:35] for record in records} == {trace_id}


async def test_the_rollups_of_a_user_add_up_to_the_usage(turnstream: FullStack) -> None:
    async with turnstream.client(await turnstream.new_key("free", "rolf")) as client:
        turns = await asyncio.gather(*(stream_turn(client, f"Number {number}") for number in range(3)))
    shown = [turn.chunks[-1].usage for turn in turns]

    async def complete() -> dict[str, int] | None:
        total = await turnstream.rolled_up("rolf")
        return total if total["turns"] >= len(turns) else None

    assert await eventually(complete) == {
        "turns": 3,
        "prompt_tokens": sum(usage.prompt_tokens for usage in shown if usage),
        "completion_tokens": sum(usage.completion_tokens for usage in shown if usage),
    }


async def test_keys_and_prompts_stay_out_of_logs_and_keys_off_the_topics(turnstream: FullStack) -> None:
    canary = f"canary{secrets.token_hex(8)}"
    key = await turnstream.new_key("free", "carla")
    async with turnstream.client(key) as client, turnstream.wire(key) as wire:
        turn = await stream_turn(client, f"Do you know {canary}?")
        for text in ("turnstream-blocked-phrase", "[[demo error=invalid error_after=9]]"):
            with pytest.raises(openai.APIError):
                await stream_turn(client, f"{text} {canary}")
        for broken in (f'{{"{canary}": ', json.dumps({"model": canary, "messages": canary, canary: canary})):
            assert (await wire.post("/chat/completions", content=broken)).status_code == 400
    records = await turnstream.records()
    secret = key.rpartition("-")[0].rpartition("-")[2].encode()
    assert any(canary.encode() in record.value for record in records if record.turn_id == turn.turn_id)
    for needle in (secret, turnstream.key.encode(), b"Bearer "):
        assert not [record.topic for record in records if needle in record.whole]
    logs = {log.name: log.read_bytes() for log in turnstream.logs.glob("*.log*")}
    assert turn.turn_id.encode() in logs["edge.log"]
    assert turn.turn_id.encode() in logs["inference.log"] + logs["inference-2.log"]
    for needle in (canary.encode(), secret, turnstream.key.encode(), b"Bearer "):
        assert not [name for name, content in logs.items() if needle in content]
