"""An answer picked up again on the real log and the real store: elsewhere, later, by others, and by nobody else."""

import asyncio
import json
import re
import secrets
import signal
from typing import Any

import httpx2
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from schemas import ids
from schemas.topics import TOKENS
from tests.support.full_stack import MODEL, FullStack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

PATH = "/chat/completions"
TOKENS_OF_ANSWER = 100
LONG = f"[[demo tokens={TOKENS_OF_ANSWER} gap_ms=20 first_ms=0]] Count."
ANSWER = "This is the built-in demonstration model of Turnstream, not an AI." + "".join(
    f" {number}" for number in range(14, TOKENS_OF_ANSWER + 1)
)


def body(content: str = LONG, **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": content}], **fields}


def frames_of(text: str) -> list[dict[str, Any]]:
    lines = (line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: "))
    return [json.loads(line) for line in lines if line != "[DONE]"]


def text_of(frames: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for frame in frames for choice in frame["choices"])


async def read_some(http: httpx2.AsyncClient, url: str, frames_max: int, **fields: Any) -> list[dict[str, Any]]:
    """The first frames of an answer whose client then hangs up."""
    found: list[dict[str, Any]] = []
    async with http.stream("POST", url + PATH, json=body(**fields)) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
            if len(found) == frames_max:
                break
    return found


async def resume(http: httpx2.AsyncClient, url: str, public_id: str, **query: str) -> httpx2.Response:
    return await http.get(f"{url}{PATH}/{public_id}/stream", params=query, headers={"accept": "text/event-stream"})


async def test_another_edge_gives_the_rest_after_the_first_was_killed(turnstream: FullStack) -> None:
    async with turnstream.wire() as http:
        first = await read_some(http, turnstream.url_of("edge"), 20)
        old_pid = turnstream.send_signal("edge", signal.SIGKILL)
        url = turnstream.url_of("edge-2")
        rest, whole = await asyncio.gather(
            resume(http, url, first[0]["id"], starting_after=first[-1]["cursor"]), resume(http, url, first[0]["id"])
        )
        await turnstream.replaced("edge", old_pid)
        late = await resume(http, turnstream.url_of("edge"), first[0]["id"])
    assert text_of(first) + text_of(frames_of(rest.text)) == ANSWER
    assert text_of(frames_of(whole.text)) == ANSWER
    assert frames_of(late.text) == frames_of(whole.text)
    assert rest.text.endswith("data: [DONE]\n\n")


async def test_the_store_remembers_what_the_log_has_deleted(turnstream: FullStack) -> None:
    url = turnstream.url_of("edge")
    async with turnstream.wire() as http:
        first = await http.post(url + PATH, json=body(store=True))
        public_id = frames_of(first.text)[0]["id"]
        await delete_log(turnstream, ids.turn_partition(ids.parse_turn_id(public_id)))
        again = await resume(http, url, public_id)
        cursor = frames_of(first.text)[30]["cursor"]
        rest = await resume(http, turnstream.url_of("edge-2"), public_id, starting_after=cursor)
    assert text_of(frames_of(again.text)) == ANSWER
    assert text_of(frames_of(first.text)[:31]) + text_of(frames_of(rest.text)) == ANSWER
    assert again.text.endswith("data: [DONE]\n\n")


async def delete_log(turnstream: FullStack, partition: int) -> None:
    """What retention does in its time."""
    admin = AIOKafkaAdminClient(bootstrap_servers=turnstream.stack.endpoints.kafka)
    await admin.start()
    try:
        everything = RecordsToDelete(before_offset=-1)
        await admin.delete_records({TopicPartition(TOKENS.name, partition): everything})
    finally:
        await admin.close()


def forged(cursor: str) -> str:
    return cursor[:-1] + ("-" if cursor.endswith("_") else "_")


async def test_a_retry_joins_at_another_edge_and_nobody_else_gets_in(turnstream: FullStack) -> None:
    key = {"idempotency-key": secrets.token_hex(8)}
    one, two = turnstream.url_of("edge"), turnstream.url_of("edge-2")
    async with turnstream.wire() as http, turnstream.wire(await turnstream.new_key("free", "mallory")) as stranger:
        answers = await asyncio.gather(
            *(http.post(url + PATH, json=body(), headers=key) for url in (one, two, one, two))
        )
        changed = await http.post(two + PATH, json=body(temperature=0.5), headers=key)
        frames = frames_of(answers[0].text)
        foreign = [
            await resume(stranger, two, frames[0]["id"]),
            await resume(stranger, two, frames[0]["id"], starting_after=frames[9]["cursor"]),
            await resume(http, two, frames[0]["id"], starting_after=forged(frames[9]["cursor"])),
            await stranger.post(f"{two}{PATH}/{frames[0]['id']}/cancel"),
        ]
        own = await stranger.post(two + PATH, json=body(), headers=key)
    # But for the comments that keep a silent line open.
    assert len({re.sub(r": ping\n\n", "", answer.text) for answer in answers}) == 1
    assert sum(answer.headers.get("idempotent-replayed") == "true" for answer in answers) == 3
    assert text_of(frames) == ANSWER
    assert (changed.status_code, changed.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert {answer.status_code for answer in foreign} == {404}
    assert own.headers["x-request-id"] != answers[0].headers["x-request-id"]


async def test_a_second_turn_of_a_conversation_is_told_of_the_first_and_may_follow_it(turnstream: FullStack) -> None:
    one, two = turnstream.url_of("edge"), turnstream.url_of("edge-2")
    async with turnstream.wire() as http:
        first = await read_some(http, one, 5, store=True)
        conversation = first[0]["conversation_id"]
        second = await http.post(two + PATH, json=body(conversation_id=conversation))
        error = second.json()["error"]
        followed = await resume(http, two, error["active_turn_id"])
        third = await http.post(two + PATH, json=body("And now?", conversation_id=conversation))
    assert (second.status_code, error["code"]) == (409, "conversation_busy")
    assert (error["active_turn_id"], second.headers["x-should-retry"]) == (first[0]["id"], "false")
    assert text_of(frames_of(followed.text)) == ANSWER
    assert "(2 messages before this one)" in text_of(frames_of(third.text))
