"""kill -9 of the server that generates, in the middle of an answer: a pause, and then the rest of the same text."""

import asyncio
import signal

import pytest
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from tests.support.full_stack import MODEL, FullStack, StreamedTurn
from turnstream.local_stack.triton import find_triton

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

TOKENS = 100
ANSWER = "This is the built-in demonstration model of Turnstream, not an AI." + "".join(
    f" {number}" for number in range(14, TOKENS + 1)
)
READ_BEFORE = " 20"
STREAMS = 8


async def begin(client: AsyncOpenAI) -> tuple[AsyncStream[ChatCompletionChunk], StreamedTurn]:
    question: ChatCompletionMessageParam = {"role": "user", "content": f"[[demo tokens={TOKENS} gap_ms=25]] Count."}
    stream = await client.chat.completions.create(model=MODEL, messages=[question], stream=True)
    return stream, await StreamedTurn().read(stream, until=READ_BEFORE)


async def test_answers_outlive_the_only_server(turnstream: FullStack, client: AsyncOpenAI) -> None:
    if isinstance(why_not := find_triton(), str):
        pytest.skip(why_not)
    running = await asyncio.gather(*(begin(client) for _ in range(STREAMS)))
    old_pid = turnstream.send_signal("triton", signal.SIGKILL)
    turns = await asyncio.gather(*(turn.read(stream) for stream, turn in running))
    assert [(turn.text, turn.finish_reasons) for turn in turns] == [(ANSWER, ["stop"])] * STREAMS
    await turnstream.replaced("triton", old_pid)
