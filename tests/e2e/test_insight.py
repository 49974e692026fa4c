"""What operators see of a running stack: lag, rates, spans, metrics, and topics in tools that know nothing of us."""

import asyncio
import json
import secrets
import time
from contextlib import suppress
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI

from schemas import topics
from tests.support.full_stack import MODEL, FullStack, StreamedTurn, eventually
from tests.support.otlp_receiver import otlp_receiver
from tests.support.topic_scan import LogRecord
from turnstream.insight.lag import contract_groups
from turnstream.insight.scrape import parse_exposition
from turnstream.local_stack import state
from turnstream.local_stack.processes import PROCESSES

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

PACE = "[[demo first_ms=0 gap_ms=0 tokens=5]] "
# What a few turns and a cancellation leave behind; the others hold what goes wrong, or come by the hour.
VISITED = {
    *(topics.BY_NAME[name].name for name in topics.BY_NAME if name.startswith(("chat.", "usage.events"))),
    topics.MODERATION_DECISIONS.name,
    topics.INFERENCE_REQUESTS["fast"].name,
    topics.LIMITS_LEDGER.name,
}


async def ask(client: AsyncOpenAI, text: str, **headers: str) -> StreamedTurn:
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": PACE + text}],
        stream=True,
        extra_body={"store": True},
        extra_headers=headers,
    )
    return await StreamedTurn().read(stream)


def unreadable(record: LogRecord) -> str | None:
    """What a tool that shows JSON and text could not show of a record."""
    try:
        key = (record.key or b"").decode()
        value = json.loads(record.value)
    except ValueError:
        return "the key is no text, or the value no JSON"
    texts = (key, *record.headers, *record.headers.values())
    if not isinstance(value, dict):
        return "the value is no JSON object"
    # The reader puts U+FFFD for what is not UTF-8.
    return None if key and all(text.isprintable() and "\ufffd" not in text for text in texts) else "no plain text"


async def test_every_topic_is_json_with_headers_and_keys_of_text(turnstream: FullStack, client: AsyncOpenAI) -> None:
    began_ms = time.time_ns() // 1_000_000
    await asyncio.gather(*(ask(client, f"Number {number}, ünïcode too") for number in range(3)))
    with pytest.raises(openai.BadRequestError):
        await ask(client, "turnstream-blocked-phrase")
    slow = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "[[demo gap_ms=50 tokens=100]]"}], stream=True
    )
    begun = await anext(aiter(slow))
    await client.post(f"/chat/completions/{begun.id}/cancel", cast_to=dict[str, Any])
    records: list[LogRecord] = []

    async def visited() -> bool:
        records[:] = [record for record in await turnstream.records() if record.timestamp_ms >= began_ms]
        return {record.topic for record in records} >= VISITED

    with suppress(AssertionError):
        await eventually(visited)
    assert VISITED - {record.topic for record in records} == set()
    records = [record for record in records if record.topic in topics.BY_NAME]
    wrong = {(record.topic, found) for record in records if (found := unreadable(record)) is not None}
    assert wrong == set()


def test_lag_tells_every_group_and_serves_as_a_probe(turnstream: FullStack) -> None:
    told = turnstream.command("lag", "--json", "--max-seconds", "3600")
    assert told.returncode == 0, told.stderr
    groups = {group["group"]: group for group in json.loads(told.stdout)["groups"]}
    assert set(groups) == set(contract_groups())
    assert {name for name, group in groups.items() if group["members"] == 0} == set()
    partitions = groups["turnstream.auth"]["topics"][0]["partitions"]
    assert len(partitions) == 4
    assert any(one["committed"] for one in partitions)


async def test_top_shows_the_turns_of_its_interval(turnstream: FullStack, client: AsyncOpenAI) -> None:
    command = asyncio.to_thread(turnstream.command, "top", "--once", "--json", "--interval", "3")
    watching = asyncio.create_task(command)
    while not watching.done():
        await ask(client, "Are you well?")
    told = await watching
    assert told.returncode == 0, told.stderr
    seen = json.loads(told.stdout)
    assert {one["process"] for one in seen["processes"]} >= {row.name for row in PROCESSES}
    assert [one for one in seen["processes"] if not one["answers"]] == []
    (fast,) = [pool for pool in seen["pools"] if pool["pool"] == "fast"]
    assert fast["turns_per_s"] > 0
    assert 0 < seen["edge"]["first_text_p50_ms"] <= seen["edge"]["first_text_p99_ms"]
    stages = {stage["stage"]: stage for stage in seen["stages"]}
    assert stages["auth"]["records_per_s"] > 0
    assert stages["cassandra_sink"]["members"] == 2


async def test_a_turn_becomes_one_trace_with_its_clients_id(turnstream: FullStack, client: AsyncOpenAI) -> None:
    trace_id, client_span = secrets.token_hex(16), secrets.token_hex(8)
    turn = await ask(client, "Where were you?", traceparent=f"00-{trace_id}-{client_span}-01")
    with otlp_receiver() as receiver:
        told = await asyncio.to_thread(turnstream.command, "trace", turn.id, "--otlp", receiver.url)
    assert told.returncode == 0, told.stderr
    assert {span.trace_id.hex() for _, span in receiver.spans} == {trace_id}
    (root,) = [span for _, span in receiver.spans if span.parent_span_id.hex() == client_span]
    assert {span.parent_span_id for _, span in receiver.spans} == {root.span_id, bytes.fromhex(client_span)}
    services = {service.removeprefix("turnstream-") for service, _ in receiver.spans}
    assert services >= {"edge", "auth", "rate_limit", "prompt", "moderation", "inference", "cassandra_sink"}
    assert root.end_time_unix_nano > root.start_time_unix_nano


async def test_the_metrics_of_the_objectives_are_there(turnstream: FullStack, client: AsyncOpenAI) -> None:
    await ask(client, "Count me.")
    found: dict[str, float] = {}
    run = state.read(turnstream.stack.layout.state_file)
    assert run is not None
    async with httpx2.AsyncClient() as http:
        for name, port in run.ports.items():
            if name.endswith("-metrics"):
                series = parse_exposition((await http.get(f"http://127.0.0.1:{port}/metrics")).text)
                for metric, values in series.items():
                    found[metric] = found.get(metric, 0) + sum(values.values())
    assert found["turnstream_edge_first_text_seconds_count"] > 0
    assert found["turnstream_stream_largest_gap_seconds_count"] > 0
    assert found["turnstream_unterminated_turns_total"] == 0
    assert found["turnstream_lag_seconds"] < 3_600
    assert "turnstream_lag_records" in found
