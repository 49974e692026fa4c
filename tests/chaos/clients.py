"""Clients that ask, read, lose their connections, come back, and write down what they saw."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2

from tests.chaos import operations as op
from tests.chaos.operations import OperationLog
from tests.chaos.sse_frames import Frame, FrameParser, cursor_seq
from tests.chaos.workload import EDGES, TurnPlan

MODEL: Final = "turnstream-fast"
TURN_SECONDS_MAX: Final = 120.0
CONNECT_SECONDS_MAX: Final = 5.0
SILENCE_SECONDS_MAX: Final = 30.0
PAUSES_S: Final = (0.0, 0.1, 0.2, 0.5, 1.0)
SLOW_READ_S: Final = 0.05
# Ends of a stream that say: come back.
RESUMABLE: Final = frozenset({"server_shutting_down", "stream_interrupted", "answer_not_stored_yet"})
BUSY: Final = "conversation_busy"
OK: Final = 200
CONFLICT: Final = 409


class _Left(Exception):
    """The client hangs up on purpose."""


@dataclass
class _Asked:
    """A turn from its client's side.

    ``continues``: the conversation that it was asked in, None for a new one. ``have``: the last piece that its client
    has, -1 for none.
    """

    plan: TurnPlan
    name: str
    prompt: str
    key: str
    continues: str | None
    conversation_id: str | None = None
    public_id: str | None = None
    cursor: str | None = None
    have: int = -1
    leaves: list[int] = field(default_factory=list)
    outcome: str | None = None
    readers: int = 0

    @property
    def body(self) -> dict[str, Any]:
        """The request; the same at every repetition."""
        body: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": self.prompt}],
            "stream": self.plan.stream,
        }
        if self.continues is not None:
            return body | {"conversation_id": self.continues}
        return body | {"store": True} if self.plan.conversation is not None else body


class Client:
    """One person's program. Takes its turns one after the other."""

    def __init__(
        self, number: int, urls: Mapping[str, str], http: httpx2.AsyncClient, log: OperationLog, seed: int
    ) -> None:
        self._number = number
        self._urls = urls
        self._http = http
        self._log = log
        self._dice = random.Random(f"client {seed} {number}")
        self._conversation: tuple[int | None, str | None] = (None, None)

    async def take_turn(self, plan: TurnPlan) -> None:
        """Ask, until the turn has ended one way or another."""
        group, conversation_id = self._conversation
        known = conversation_id if plan.conversation is not None and group == plan.conversation else None
        asked = _Asked(plan, str(plan.number), plan.prompt, plan.key, known, leaves=list(plan.leave_after_bytes))
        self._note_asked(asked)
        async with asyncio.TaskGroup() as tasks:
            if plan.twice:
                double = _Asked(plan, asked.name, plan.prompt, plan.key, known)
                tasks.create_task(self._once(double, _other(plan.edge), "double"))
            await self._until_it_ends(asked, tasks)
        if plan.conversation is not None:
            self._conversation = (plan.conversation, asked.conversation_id)

    def _note_asked(self, asked: _Asked) -> None:
        self._log.note(
            self._number,
            asked.name,
            "main",
            op.ASK,
            key=asked.key,
            prompt=asked.prompt,
            stored=asked.plan.conversation is not None,
            conversation=None if asked.plan.conversation is None else f"{self._number}/{asked.plan.conversation}",
            tokens=asked.plan.tokens,
        )

    async def _until_it_ends(self, asked: _Asked, tasks: asyncio.TaskGroup) -> None:
        edge, failures = asked.plan.edge, 0
        until_s = time.monotonic() + TURN_SECONDS_MAX
        while asked.outcome is None and time.monotonic() < until_s:
            reader, before = f"main{asked.readers}", asked.have
            asked.readers += 1
            wait_s = await self._try(asked, edge, reader, tasks)
            failures = 0 if asked.have > before else failures + 1
            if asked.outcome is None:
                edge = _other(edge)
                await asyncio.sleep(max(wait_s, PAUSES_S[min(max(0, failures - 1), len(PAUSES_S) - 1)]))
        self._log.note(self._number, asked.name, "main", op.OUTCOME, outcome=asked.outcome or "unknown")
        if asked.outcome == "done" and asked.plan.conversation is not None:
            await self._read_history(asked, until_s)

    async def _try(self, asked: _Asked, edge: str, reader: str, tasks: asyncio.TaskGroup | None) -> float:
        """One connection; how long to wait before the next."""
        try:
            resuming = asked.public_id is not None and asked.plan.stream and self._dice.random() < 0.8
            if resuming:
                return await self._resume(asked, edge, reader, tasks)
            return await self._post(asked, edge, reader, tasks)
        except _Left:
            self._log.note(self._number, asked.name, reader, op.LEFT)
        except (httpx2.HTTPError, OSError) as error:
            self._log.note(self._number, asked.name, reader, op.LOST, error=type(error).__name__)
        return 0.0

    async def _once(self, asked: _Asked, edge: str, reader: str) -> None:
        """Ask or attach once, beside the main reader."""
        with suppress(TimeoutError):
            async with asyncio.timeout(TURN_SECONDS_MAX):
                await self._try(asked, edge, reader, None)

    async def _post(self, asked: _Asked, edge: str, reader: str, tasks: asyncio.TaskGroup | None) -> float:
        self._log.note(self._number, asked.name, reader, op.INVOKE, what="post", edge=edge, after=-1)
        headers = {"idempotency-key": asked.key}
        url = f"{self._urls[edge]}/chat/completions"
        async with self._http.stream("POST", url, json=asked.body, headers=headers) as response:
            return await self._take(asked, response, reader, tasks)

    async def _resume(self, asked: _Asked, edge: str, reader: str, tasks: asyncio.TaskGroup | None) -> float:
        self._log.note(self._number, asked.name, reader, op.INVOKE, what="resume", edge=edge, after=asked.have)
        query = {} if asked.cursor is None else {"starting_after": asked.cursor}
        url = f"{self._urls[edge]}/chat/completions/{asked.public_id}/stream"
        async with self._http.stream("GET", url, params=query) as response:
            return await self._take(asked, response, reader, tasks)

    async def _take(
        self, asked: _Asked, response: httpx2.Response, reader: str, tasks: asyncio.TaskGroup | None
    ) -> float:
        if response.status_code != OK:
            return await self._take_refusal(asked, response, reader)
        asked.conversation_id = response.headers.get("x-conversation-id") or asked.conversation_id
        if response.headers["content-type"].startswith("application/json"):
            self._take_whole(asked, response, reader, await response.aread())
            return 0.0
        turn = asked.public_id or response.headers["x-request-id"]
        self._note_head(asked, reader, response, turn)
        await self._read(asked, response, reader, tasks)
        return 0.0

    def _note_head(self, asked: _Asked, reader: str, response: httpx2.Response, turn: str | None, **data: Any) -> None:
        replayed = "idempotent-replayed" in response.headers
        self._log.note(
            self._number,
            asked.name,
            reader,
            op.HEAD,
            status=response.status_code,
            id=turn,
            replayed=replayed,
            **data,
        )

    async def _take_refusal(self, asked: _Asked, response: httpx2.Response, reader: str) -> float:
        error = _error_of(await response.aread(), response)
        active = error.get("active_turn_id")
        self._note_head(asked, reader, response, None, code=error.get("code"), active=active)
        if response.status_code == CONFLICT and asked.name.endswith("r"):
            asked.outcome, asked.public_id = "busy", active
        elif response.status_code < 500 and response.status_code not in {408, CONFLICT, 429}:
            asked.outcome = "refused"
        return min(float(response.headers.get("retry-after", "0.2")), 1.0)

    def _take_whole(self, asked: _Asked, response: httpx2.Response, reader: str, body: bytes) -> None:
        answer = httpx2.Response(OK, content=body).json()
        asked.public_id = answer["id"]
        self._note_head(asked, reader, response, asked.public_id)
        (choice,) = answer["choices"]
        self._log.note(
            self._number,
            asked.name,
            reader,
            op.WHOLE,
            id=asked.public_id,
            text=choice["message"]["content"],
            finish=choice["finish_reason"],
        )
        asked.outcome = "done"

    async def _read(
        self, asked: _Asked, response: httpx2.Response, reader: str, tasks: asyncio.TaskGroup | None
    ) -> None:
        frames, read, leave = FrameParser(), 0, asked.leaves.pop(0) if asked.leaves and tasks else None
        async for chunk in response.aiter_raw():
            read += len(chunk)
            if leave is not None and read > leave:
                # What came before the client left, it may well have read.
                for frame in frames.feed(chunk[: len(chunk) - (read - leave)]):
                    self._take_frame(asked, frame, reader, tasks)
                raise _Left
            for frame in frames.feed(chunk):
                self._take_frame(asked, frame, reader, tasks)
            if asked.plan.slow:
                await asyncio.sleep(SLOW_READ_S)

    def _take_frame(self, asked: _Asked, frame: Frame, reader: str, tasks: asyncio.TaskGroup | None) -> None:
        if not frame:
            self._log.note(self._number, asked.name, reader, op.DONE)
            asked.outcome = "done"
            return
        if "error" in frame:
            code = frame["error"].get("code")
            self._log.note(self._number, asked.name, reader, op.ERROR, code=code)
            if code not in RESUMABLE:
                asked.outcome = f"failed {code}"
            return
        if asked.public_id is None:
            asked.public_id = frame["id"]
            self._begin_companions(asked, tasks)
        for choice in frame["choices"]:
            self._take_choice(asked, frame, choice, reader, tasks)

    def _take_choice(
        self, asked: _Asked, frame: Frame, choice: Frame, reader: str, tasks: asyncio.TaskGroup | None
    ) -> None:
        if (cursor := frame.get("cursor")) is not None:
            asked.cursor = cursor
        if choice["finish_reason"] is not None:
            self._log.note(
                self._number,
                asked.name,
                reader,
                op.FINISH,
                id=frame["id"],
                reason=choice["finish_reason"],
                pieces=None if cursor is None else cursor_seq(cursor),
                cancelled=frame.get("cancelled") or choice.get("cancelled"),
            )
        elif (text := choice["delta"].get("content")) and cursor is not None:
            seq = cursor_seq(cursor)
            self._log.note(self._number, asked.name, reader, op.PIECE, id=frame["id"], seq=seq, text=text)
            asked.have = max(asked.have, seq)
            if seq == asked.plan.cancel_after and tasks is not None:
                tasks.create_task(self._cancel(asked))

    def _begin_companions(self, asked: _Asked, tasks: asyncio.TaskGroup | None) -> None:
        if tasks is None:
            return
        plan = asked.plan
        if plan.watched:
            watcher = _Asked(plan, asked.name, asked.prompt, asked.key, None, public_id=asked.public_id)
            tasks.create_task(self._watch(watcher, "watcher"))
        if plan.rival:
            prompt = asked.prompt.replace("Frage", "Zwischenfrage")
            rival = _Asked(plan, f"{asked.name}r", prompt, f"{asked.key}r", asked.conversation_id)
            tasks.create_task(self._rival(rival))

    async def _watch(self, watcher: _Asked, reader: str) -> None:
        with suppress(httpx2.HTTPError, OSError, TimeoutError):
            async with asyncio.timeout(TURN_SECONDS_MAX):
                await self._resume(watcher, _other(watcher.plan.edge), reader, None)

    async def _rival(self, rival: _Asked) -> None:
        self._note_asked(rival)
        async with asyncio.TaskGroup() as tasks:
            await self._until_it_ends(rival, tasks)
        if rival.outcome == "busy" and rival.public_id is not None:
            attached = _Asked(rival.plan, rival.name.rstrip("r"), "", "", None, public_id=rival.public_id)
            await self._watch(attached, "rival")

    async def _cancel(self, asked: _Asked) -> None:
        edge = _other(asked.plan.edge)
        for pause_s in PAUSES_S:
            await asyncio.sleep(pause_s)
            try:
                self._log.note(self._number, asked.name, "cancel", op.INVOKE, what="cancel", edge=edge, after=-1)
                response = await self._http.post(f"{self._urls[edge]}/chat/completions/{asked.public_id}/cancel")
            except (httpx2.HTTPError, OSError) as error:
                self._log.note(self._number, asked.name, "cancel", op.LOST, error=type(error).__name__)
            else:
                self._note_head(asked, "cancel", response, asked.public_id)
                if response.status_code < 500:
                    return
            edge = _other(edge)

    async def _read_history(self, asked: _Asked, until_s: float) -> None:
        """What the conversation holds, as soon as anybody tells: the client has seen the answer's end."""
        edge = asked.plan.edge
        query = {"order": "asc", "limit": "100"}
        while time.monotonic() < until_s:
            try:
                url = f"{self._urls[edge]}/conversations/{asked.conversation_id}/items"
                response = await self._http.get(url, params=query)
            except (httpx2.HTTPError, OSError):
                response = None
            if response is not None and response.status_code == OK:
                self._log.note(self._number, asked.name, "history", op.HISTORY, items=_items(response.json()["data"]))
                return
            edge = _other(edge)
            await asyncio.sleep(0.1)


def _items(data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "turn": item["turn_id"],
            "role": item["role"],
            "text": item["content"][0]["text"],
            "complete": item["status"] == "completed",
        }
        for item in data
    ]


def _error_of(body: bytes, response: httpx2.Response) -> Mapping[str, Any]:
    try:
        error: Mapping[str, Any] = httpx2.Response(response.status_code, content=body).json()["error"]
    except (ValueError, KeyError):
        return {"code": None}
    return error


def _other(edge: str) -> str:
    return EDGES[1 - EDGES.index(edge)]
