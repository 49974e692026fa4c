"""One streamed chat, through the edge or straight to Triton, with the times of its tokens.

Both sides are driven by the same process with the same prompt, so that their difference is ours.
"""

import asyncio
import json
import os
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httptools

from consumers.inference.triton_backend import TritonBackend
from schemas.accounts import Account
from schemas.content import Content
from schemas.events import InferenceRequested, Prompt, Turn
from schemas.ids import new_conversation_id, new_turn_id
from schemas.messages import Message, Role

READ_BYTES = 65_536
STREAM_SECONDS_MAX = 120


@dataclass
class Streamed:
    """What one stream did: seconds to the first text, to the end, and what came."""

    started: float
    first_s: float | None = None
    ended_s: float = 0.0
    tokens: int = 0
    text: list[str] = field(default_factory=list)
    status: int = 0

    def add(self, text: str) -> None:
        """Text arrived now."""
        if self.first_s is None and text:
            self.first_s = time.perf_counter() - self.started
        self.text.append(text)


class _ChatParser:
    """Feeds an SSE chat response into a Streamed; protocol callbacks of httptools."""

    def __init__(self, streamed: Streamed) -> None:
        self._streamed = streamed
        self._rest = b""
        self.done = False
        self.http = httptools.HttpResponseParser(self)

    def on_body(self, body: bytes) -> None:
        *lines, self._rest = (self._rest + body).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                self._on_chunk(json.loads(line[6:]))

    def on_headers_complete(self) -> None:
        self._streamed.status = self.http.get_status_code()

    def on_message_complete(self) -> None:
        self.done = True

    def _on_chunk(self, chunk: dict[str, Any]) -> None:
        for choice in chunk.get("choices") or ():
            if text := choice["delta"].get("content"):
                self._streamed.add(text)
        if usage := chunk.get("usage"):
            self._streamed.tokens = usage["completion_tokens"]


async def through_edge(address: tuple[str, int], key: str, model: str, content: str) -> Streamed:
    """Chat over a fresh connection to the edge."""
    body = json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": content}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    streamed = Streamed(time.perf_counter())
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(head.encode() + body)
        parser = _ChatParser(streamed)
        async with asyncio.timeout(STREAM_SECONDS_MAX):
            while not parser.done and (data := await reader.read(READ_BYTES)):
                parser.http.feed_data(data)
    finally:
        writer.close()
    streamed.ended_s = time.perf_counter() - streamed.started
    return streamed


async def direct_to_triton(backend: TritonBackend, content: str) -> Streamed:
    """The same chat, straight to Triton over gRPC."""
    request = _request(content)
    streamed = Streamed(time.perf_counter(), status=200)
    async with asyncio.timeout(STREAM_SECONDS_MAX), aclosing(backend.generate(request, "")) as pieces:
        async for piece in pieces:
            streamed.add(piece.text)
            streamed.tokens += piece.tokens
    streamed.ended_s = time.perf_counter() - streamed.started
    return streamed


def _request(content: str) -> InferenceRequested:
    now_ms = time.time_ns() // 1_000_000
    turn_id = new_turn_id(now_ms, 0, os.urandom(8))
    return InferenceRequested(
        turn=Turn(
            turn_id=turn_id,
            conversation_id=new_conversation_id(now_ms, os.urandom(10)),
            starts_conversation=True,
            stored=False,
            model="direct",
            submitted_at_ms=now_ms,
            deadline_ms=now_ms + 1000 * STREAM_SECONDS_MAX,
        ),
        account=Account(tenant_id="bench", user_id="bench", key_id="bench", plan="bench"),
        pool="fast",
        message_seq=0,
        prompt=Prompt(
            messages=(Message(role=Role.USER, content=Content(content)),),
            input_count=1,
            prompt_tokens=1,
            max_tokens=2_000,
        ),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0..1) of ``values`` lie, nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
