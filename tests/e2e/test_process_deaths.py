"""kill -9 of all processes of a stage while an answer is under way: it ends right, and the next turn works."""

import asyncio
import json
import signal
from dataclasses import dataclass

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from tests.support.full_stack import MODEL, RECOVERY_SECONDS_MAX, FullStack, StreamedTurn, eventually, stored_answer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

TOKENS = 100
# After its introduction of 13 tokens the model counts, so a token that is lost or comes twice shows.
ANSWER = "This is the built-in demonstration model of Turnstream, not an AI." + "".join(
    f" {number}" for number in range(14, TOKENS + 1)
)

READ_BEFORE = " 20"


@dataclass
class Running:
    """A stored turn whose client has read the first fifth of an answer of 2.5 s."""

    stream: AsyncStream[ChatCompletionChunk]
    turn: StreamedTurn

    @property
    def conversation_id(self) -> str:
        found: str = self.turn.chunks[0].model_dump()["conversation_id"]
        return found


async def begin(client: AsyncOpenAI) -> Running:
    question: ChatCompletionMessageParam = {"role": "user", "content": f"[[demo tokens={TOKENS} gap_ms=25]] Count."}
    stream = await client.chat.completions.create(
        model=MODEL, messages=[question], stream=True, extra_body={"store": True}
    )
    return Running(stream, await StreamedTurn().read(stream, until=READ_BEFORE))


async def ask(client: AsyncOpenAI, conversation_id: str) -> str:
    """The next turn of a conversation; the edge waits for the stages behind it."""
    async with asyncio.timeout(RECOVERY_SECONDS_MAX):
        completion = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "And now?"}],
            extra_body={"conversation_id": conversation_id},
        )
    return completion.choices[0].message.content or ""


@pytest.mark.parametrize("part", ["processors", "inference", "sink", "windows"])
async def test_an_answer_survives_both_processes_of_a_stage(turnstream: FullStack, part: str) -> None:
    user = f"user-of-{part}"
    async with turnstream.client(await turnstream.new_key("free", user)) as client:
        running = await begin(client)
        old_pids = {each: turnstream.send_signal(each, signal.SIGKILL) for each in (part, f"{part}-2")}
        await running.turn.read(running.stream)
        assert (running.turn.text, running.turn.finish_reasons) == (ANSWER, ["stop"])
        assert await stored_answer(client, running.conversation_id, RECOVERY_SECONDS_MAX) == ANSWER
        assert "I remember this conversation (2 messages" in await ask(client, running.conversation_id)
    for each, old_pid in old_pids.items():
        await turnstream.replaced(each, old_pid)
    records = await turnstream.records_of(running.turn.turn_id)
    # What is given again after a death may be billed again, but only unchanged.
    (bill,) = {record.value for record in records if record.topic == "usage.events.v1"}
    usage = json.loads(bill)
    assert (usage["finish_reason"], usage["usage"]["completion_tokens"]) == ("stop", TOKENS)
    # A process that comes back after its session has ended finds the turn with the other, and takes it over again.
    assert usage["attempt"] in ({2, 3} if part == "inference" else {1})

    async def both_turns_counted() -> bool:
        return (await turnstream.rolled_up(user))["turns"] >= 2

    await eventually(both_turns_counted, 100)
    assert (await turnstream.rolled_up(user))["turns"] == 2


async def test_an_answer_survives_its_edge(turnstream: FullStack) -> None:
    async with turnstream.client() as client:
        running = await begin(client)
        old_pid = turnstream.send_signal("edge", signal.SIGKILL)
        with pytest.raises((openai.APIConnectionError, httpx2.TransportError)):
            await running.turn.read(running.stream)
    await turnstream.replaced("edge", old_pid)
    async with turnstream.client() as client:
        assert await stored_answer(client, running.conversation_id, RECOVERY_SECONDS_MAX) == ANSWER
        assert "I remember this conversation (2 messages" in await ask(client, running.conversation_id)


async def test_an_edge_that_is_asked_to_stop_ends_its_streams_first(turnstream: FullStack) -> None:
    async with turnstream.client() as client, turnstream.wire() as late:
        running = await begin(client)
        old_pid = turnstream.send_signal("edge", signal.SIGTERM)

        async def refused() -> str | None:
            response = await late.get(turnstream.ready_url)
            return None if response.status_code == 200 else response.json()["status"]

        assert await eventually(refused) == "not ready"
        with pytest.raises(openai.InternalServerError) as caught:
            await ask(client, running.conversation_id)
        await running.turn.read(running.stream)
    assert (caught.value.status_code, caught.value.code) == (503, "server_shutting_down")
    assert (running.turn.text, running.turn.finish_reasons) == (ANSWER, ["stop"])
    await turnstream.replaced("edge", old_pid)
    async with turnstream.client() as client:
        assert "I remember this conversation (2 messages" in await ask(client, running.conversation_id)
