"""One HTTP request to one edge, with everything that it brings written into the operation log."""

import asyncio
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import httpx2

from tests.faults.frames import FrameReader
from tests.faults.operations import Action, Event, Item, OperationLog
from tests.faults.turn_plans import BEFORE_DONE, MODEL, TurnPlan

CONNECT_SECONDS_MAX: Final = 3.0
# The edge sends a heartbeat every second here, so a longer silence is a dead or a stopped one.
SILENCE_SECONDS_MAX: Final = 5.0
WHOLE_SECONDS_MAX: Final = 45.0
HISTORY_PAGES_MAX: Final = 20
SLOW_READ_SECONDS: Final = 0.1
_TIMEOUT: Final = httpx2.Timeout(SILENCE_SECONDS_MAX, connect=CONNECT_SECONDS_MAX)
_WHOLE_TIMEOUT: Final = httpx2.Timeout(WHOLE_SECONDS_MAX, connect=CONNECT_SECONDS_MAX)


class Result(StrEnum):
    """How one request ended."""

    OVER = "over"
    REFUSED = "refused"
    ERROR = "error"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Outcome:
    """``status`` and ``code`` of a refusal or an error frame; ``turn_id`` is the active one of a 409."""

    result: Result
    status: int = 0
    code: str = ""
    turn_id: str | None = None


@dataclass
class View:
    """One reader of a turn over all its connections. ``begun`` is set when ``pieces_wanted`` have come, or no more."""

    client: int
    reader: str
    key: str
    pieces_wanted: int = 0
    cuts: list[int] = field(default_factory=list)
    slow: bool = False
    turn_id: str | None = None
    conversation_id: str | None = None
    cursor: str | None = None
    pieces: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def public_id(self) -> str:
        """The turn as the API names it."""
        return f"chatcmpl-{self.turn_id}"


class _HangUp(Exception):
    """The client closes the connection now."""


def open_wire(key: str) -> httpx2.AsyncClient:
    """HTTP for all clients of a run: made once, because making one blocks the loop for long."""
    return httpx2.AsyncClient(
        headers={"authorization": f"Bearer {key}"},
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
    )


class EdgeClient:
    """Asks edges, a fresh connection for each request; ``urls`` end with ``/v1``, ``wire`` is ``open_wire``'s."""

    def __init__(self, urls: tuple[str, ...], wire: httpx2.AsyncClient, log: OperationLog) -> None:
        self.urls = urls
        self._wire = wire
        self._log = log
        self._numbers = itertools.count()

    async def post(self, view: View, edge: int, body: Mapping[str, Any]) -> Outcome:
        """Ask for a turn, streamed or whole as ``body`` says."""
        view.cursor = None
        said = {"key": view.key, "conversation_id": body.get("conversation_id")}
        headers = {"idempotency-key": view.key, "content-type": "application/json"}
        content = json.dumps(body, ensure_ascii=False).encode()
        timeout = _TIMEOUT if body["stream"] else _WHOLE_TIMEOUT
        request = ("POST", "/chat/completions", headers, content, timeout)
        return await self._answer(view, edge, Action.POST, said, request)

    async def resume(self, view: View, edge: int) -> Outcome:
        """Go on behind the view's cursor, or from the beginning without one."""
        where = f"?starting_after={view.cursor}" if view.cursor else ""
        path = f"/chat/completions/{view.public_id}/stream{where}"
        said = {"cursor": view.cursor, "conversation_id": view.conversation_id}
        request = ("GET", path, {"accept": "text/event-stream"}, b"", _TIMEOUT)
        return await self._answer(view, edge, Action.RESUME, said, request)

    async def cancel(self, view: View, edge: int) -> bool:
        """Ask to stop the turn; whether the edge agreed."""
        name = self._open(view, edge, Action.CANCEL, {"turn_id": view.turn_id})
        path = f"/chat/completions/{view.public_id}/cancel"
        body = await self._json(view, edge, name, ("POST", path))
        return body is not None

    async def history(self, view: View, edge: int) -> bool:
        """Read the whole conversation of the view; whether that succeeded."""
        items: list[Item] = []
        after = ""
        for _ in range(HISTORY_PAGES_MAX):
            name = self._open(view, edge, Action.HISTORY, {"conversation_id": view.conversation_id})
            path = f"/conversations/{view.conversation_id}/items?order=asc&limit=100{after}"
            page = await self._json(view, edge, name, ("GET", path))
            if page is None:
                return False
            items += [_item(raw) for raw in page["data"]]
            if not page["has_more"]:
                break
            after = f"&after={page['last_id']}"
        self._note(view, name, Event.HISTORY, conversation_id=view.conversation_id, items=tuple(items))
        return True

    # --- one request ---------------------------------------------------------------------------------------

    async def _answer(
        self,
        view: View,
        edge: int,
        action: Action,
        said: Mapping[str, Any],
        request: tuple[str, str, dict[str, str], bytes, httpx2.Timeout],
    ) -> Outcome:
        name = self._open(view, edge, action, said)
        method, path, headers, content, timeout = request
        try:
            async with self._wire.stream(
                method, self.urls[edge] + path, headers=headers, content=content, timeout=timeout
            ) as response:
                return await self._read(view, name, response)
        except _HangUp:
            return Outcome(Result.BROKEN)
        except (httpx2.TransportError, httpx2.StreamError) as error:
            self._note(view, name, Event.LOST, code=type(error).__name__)
            return Outcome(Result.BROKEN)

    async def _read(self, view: View, name: str, response: httpx2.Response) -> Outcome:
        if response.status_code >= 300:
            return await self._refused(view, name, response)
        view.turn_id = _turn_of(response, view)
        view.conversation_id = response.headers.get("x-conversation-id") or view.conversation_id
        known = {"turn_id": view.turn_id, "conversation_id": view.conversation_id}
        self._note(view, name, Event.HEAD, status=response.status_code, **known)
        if "event-stream" in response.headers.get("content-type", ""):
            return await self._stream(view, name, response)
        completion = json.loads(await response.aread())
        choice = completion["choices"][0]
        told = {"finish_reason": choice["finish_reason"], "cancelled": completion.get("cancelled")}
        self._note(view, name, Event.WHOLE, text=choice["message"]["content"], **told)
        view.begun.set()
        return Outcome(Result.OVER)

    async def _refused(self, view: View, name: str, response: httpx2.Response) -> Outcome:
        body = await response.aread()
        try:
            error = json.loads(body).get("error", {})
        except ValueError:
            error = {}
        code, status = str(error.get("code") or "none"), response.status_code
        active = error.get("active_turn_id")
        turn_id = active.removeprefix("chatcmpl-") if active else None
        self._note(view, name, Event.HEAD, status=status, code=code, active_turn_id=turn_id)
        return Outcome(Result.REFUSED, status, code, turn_id)

    async def _stream(self, view: View, name: str, response: httpx2.Response) -> Outcome:
        reader = FrameReader()
        cut = view.cuts.pop(0) if view.cuts else None
        size = 0
        if cut == 0:
            self._hang_up(view, name, 0)
        async for data in response.aiter_raw():
            # What lies behind the cut has not been read: a client that died here knows nothing of it.
            room = len(data) if cut is None or cut == BEFORE_DONE else max(0, cut - size)
            size += min(room, len(data))
            for event, what in reader.feed(data[:room]):
                self._note(view, name, event, **what)
                outcome = self._take(view, event, what)
                if outcome is not None:
                    return outcome
                if cut == BEFORE_DONE and event is Event.FINISH:
                    self._hang_up(view, name, size)
            if cut is not None and cut != BEFORE_DONE and size >= cut:
                self._hang_up(view, name, size)
            if view.slow:
                await asyncio.sleep(SLOW_READ_SECONDS)
        self._note(view, name, Event.ENDED, told=reader.told)
        return Outcome(Result.BROKEN)

    def _take(self, view: View, event: Event, what: Mapping[str, Any]) -> Outcome | None:
        view.cursor = what.get("cursor") or view.cursor
        view.pieces += event is Event.PIECE
        if event is not Event.PIECE or view.pieces >= view.pieces_wanted:
            view.begun.set()
        if event is Event.DONE:
            return Outcome(Result.OVER)
        return Outcome(Result.ERROR, code=what["code"]) if event is Event.ERROR else None

    def _hang_up(self, view: View, name: str, size: int) -> None:
        self._note(view, name, Event.CUT, size=size)
        raise _HangUp

    async def _json(self, view: View, edge: int, name: str, request: tuple[str, str]) -> dict[str, Any] | None:
        method, path = request
        try:
            response = await self._wire.request(method, self.urls[edge] + path, timeout=_TIMEOUT)
        except httpx2.TransportError as error:
            self._note(view, name, Event.LOST, code=type(error).__name__)
            return None
        if response.status_code >= 300:
            self._note(view, name, Event.HEAD, status=response.status_code, code="none")
            return None
        found: dict[str, Any] = response.json()
        return found

    def _open(self, view: View, edge: int, action: Action, said: Mapping[str, Any]) -> str:
        name = f"r{next(self._numbers)}"
        self._note(view, name, Event.REQUEST, edge="edge" if edge == 0 else "edge-2", action=action, **said)
        return name

    def _note(self, view: View, request: str, event: Event, **what: Any) -> None:
        self._log.note(event, client=view.client, reader=view.reader, request=request, **what)


def _turn_of(response: httpx2.Response, view: View) -> str | None:
    # On the resume route the request has an id of its own.
    if response.request.method == "GET":
        return view.turn_id
    named = response.headers.get("x-request-id", "")
    return named.removeprefix("chatcmpl-") if named.startswith("chatcmpl-") else view.turn_id


def request_body(plan: TurnPlan, prompt: str, conversation_id: str | None) -> dict[str, Any]:
    """The body of a turn: the same for every attempt with one key."""
    body: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "stream": plan.stream,
    }
    if plan.stored:
        body |= {"conversation_id": conversation_id} if conversation_id else {"store": True}
    return body


def _item(raw: Mapping[str, Any]) -> Item:
    return Item(
        seq=int(raw["id"].removeprefix("msg_")),
        role=raw["role"],
        status=raw["status"],
        turn_id=raw["turn_id"],
        text=raw["content"][0]["text"],
    )
