"""Every process is asked to stop, one after the other, under load: no turn fails and no token is lost."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.support.full_stack import MODEL, FullStack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

EDGES = ("edge", "edge-2")
OURS = tuple(
    f"{name}{replica}" for name in ("edge", "processors", "inference", "sink", "windows") for replica in ("", "-2")
)
READERS = 4
TOKENS = 120
ANSWER = "This is the built-in demonstration model of Turnstream, not an AI." + "".join(
    f" {number}" for number in range(14, TOKENS + 1)
)
BODY = {
    "model": MODEL,
    "stream": True,
    "messages": [{"role": "user", "content": f"[[demo tokens={TOKENS} gap_ms=20 first_ms=0]] Count."}],
}
EVENT_SOURCE = {"accept": "text/event-stream"}
COME_BACK = "server_shutting_down"
# A disk that stands still for seconds is not ours to prevent: a reader may meet it once, and comes back as well.
STALLED = "dependency_unavailable"


class Reader:
    """A client as the API's documentation tells it to be: a key for every question, a cursor for every break."""

    def __init__(self, turnstream: FullStack, http: httpx2.AsyncClient, number: int) -> None:
        self._urls = [f"{turnstream.url_of(edge)}/chat/completions" for edge in EDGES]
        self._http = http
        self._number = number
        self.answers: list[str] = []
        self.moved = 0
        self.stalled = 0

    async def read_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.answers.append(await self._answer(f"reader-{self._number}-{len(self.answers)}"))

    async def _answer(self, key: str) -> str:
        text, place, edge = "", None, self._number
        while True:
            edge += 1
            try:
                async for frame in self._frames(self._urls[edge % 2], key, place):
                    if frame is None:
                        return text
                    if "error" in frame:
                        assert frame["error"]["code"] == COME_BACK
                        self.moved += 1
                        continue
                    for choice in frame["choices"]:
                        text += choice["delta"].get("content") or ""
                    place = (frame["id"], frame.get("cursor") or (place[1] if place else None))
            except (httpx2.HTTPError, OSError):
                # The other edge has it all.
                self.moved += 1

    async def _frames(
        self, url: str, key: str, place: tuple[str, str | None] | None
    ) -> AsyncIterator[dict[str, Any] | None]:
        if place is None:
            asked = self._http.stream("POST", url, json=BODY, headers={"idempotency-key": key})
        else:
            query = {} if place[1] is None else {"starting_after": place[1]}
            asked = self._http.stream("GET", f"{url}/{place[0]}/stream", params=query, headers=EVENT_SOURCE)
        async with asked as response:
            if response.status_code != 200:
                error = json.loads(await response.aread())["error"]
                assert (response.status_code, error["code"]) in {(503, COME_BACK), (503, STALLED)}
                if error["code"] == STALLED:
                    self.stalled += 1
                    await asyncio.sleep(float(response.headers["retry-after"]))
                return
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    data = line.removeprefix("data: ")
                    yield None if data == "[DONE]" else json.loads(data)


async def test_no_turn_fails_while_everything_is_restarted(turnstream: FullStack) -> None:
    headers = {"authorization": f"Bearer {await turnstream.new_key('enterprise', 'roller')}"}
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        readers = [Reader(turnstream, http, number) for number in range(READERS)]
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for reader in readers:
                tasks.create_task(reader.read_until(stop))
            for part in OURS:
                old_pid = turnstream.send_signal(part, signal.SIGTERM)
                await turnstream.replaced(part, old_pid)
            stop.set()
    answers = [answer for reader in readers for answer in reader.answers]
    assert len(answers) >= 2 * READERS
    assert set(answers) == {ANSWER}
    assert max(reader.stalled for reader in readers) <= 1
