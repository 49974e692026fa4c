"""What becomes of a response whose credential loses its access while it is written."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from producers.http.accounts import Accounts
from producers.http.callers import Callers
from producers.http.exchange import Exchange
from producers.http.key_uses import KeyUses
from producers.http.open_access import OpenAccess
from producers.http.revocable import RevocableResponses
from producers.ingest.core import IngestSettings
from schemas.accounts import Account, AccountChanged, SessionCredential
from tests.support.memory_stores import MemoryAccountDirectory

ANN = Account(tenant_id="acme", user_id="ann", key_id="sess_1", plan="free")
SESSION = SessionCredential(tenant_id="acme", user_id="ann", session_id="sess_1", expires_at_ms=9_000_000)
LOGGED_OUT = AccountChanged(
    subject="session",
    subject_id="sess_1",
    tenant_id="acme",
    user_id="ann",
    access_lost=True,
    reason="logged_out",
    changed_at_ms=1,
)
SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/v1/auth/logout",
    "headers": [(b"authorization", b"Bearer a.b.c")],
}

Lose = Callable[[], None]
App = Callable[[Scope, Receive, Send, Lose], Awaitable[None]]


class NoUses:
    async def note_use(self, key_hash: str, used_at_ms: int) -> None: ...


async def at_once() -> None: ...


async def answered(app: App, sending: Callable[[], Awaitable[object]] = at_once) -> list[Message]:
    """What the client reads of ``app``, which ends the session of its own request when it calls what it is given.

    The client's message comes after ``sending``.
    """
    directory = MemoryAccountDirectory({"sess_1": ANN})
    accounts = Accounts(directory, IngestSettings(), lambda: 0.0, lambda: 0)
    access = OpenAccess(accounts, KeyUses(NoUses(), 10, 5), lambda: 0)
    sent: list[Message] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send, lambda: access.hear(LOGGED_OUT))

    async def receive() -> Message:
        await sending()
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    callers = Callers(accounts, b"pepper", lambda _: SESSION)
    scope = {**SCOPE, "turnstream.exchange": Exchange(0.0)}
    await RevocableResponses(inner, callers, access)(scope, receive, send)
    return sent


def statuses(sent: list[Message]) -> list[Any]:
    return [message["status"] for message in sent if message["type"] == "http.response.start"]


async def test_a_request_that_ends_its_own_access_is_answered() -> None:
    async def logout(scope: Scope, receive: Receive, send: Send, lose: Lose) -> None:
        await receive()
        lose()
        await JSONResponse({"ended": True})(scope, receive, send)

    sent = await answered(logout)
    assert statuses(sent) == [200]
    assert b"".join(message.get("body", b"") for message in sent) == b'{"ended":true}'


async def test_who_waits_for_an_answer_gets_the_loss_instead_of_it() -> None:
    async def waiting(scope: Scope, receive: Receive, send: Send, lose: Lose) -> None:
        lose()
        assert (await receive())["type"] == "http.disconnect"
        await JSONResponse({"secret": True})(scope, receive, send)

    sent = await answered(waiting)
    assert statuses(sent) == [401]
    assert not any(b"secret" in message.get("body", b"") for message in sent)


async def test_a_stream_does_not_begin_after_the_loss() -> None:
    async def streaming(scope: Scope, receive: Receive, send: Send, lose: Lose) -> None:
        await receive()
        lose()
        await StreamingResponse(iter(("data: secret\n\n",)), media_type="text/event-stream")(scope, receive, send)

    sent = await answered(streaming)
    assert statuses(sent) == [401]
    assert not any(b"secret" in message.get("body", b"") for message in sent)


async def test_a_stream_that_began_ends_with_the_loss() -> None:
    async def streaming(_scope: Scope, _receive: Receive, send: Send, lose: Lose) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: public\n\n", "more_body": True})
        lose()
        await send({"type": "http.response.body", "body": b"data: secret\n\n", "more_body": True})

    body = b"".join(message.get("body", b"") for message in await answered(streaming))
    assert body.startswith(b"data: public\n\n")
    assert b"session_ended" in body
    assert b"secret" not in body


async def test_a_request_that_is_cancelled_with_the_loss_ends() -> None:
    async def leaving(_scope: Scope, receive: Receive, _send: Send, lose: Lose) -> None:
        asking = asyncio.current_task()
        assert asking is not None
        loop = asyncio.get_running_loop()
        loop.call_soon(asking.cancel)
        loop.call_soon(lose)
        await receive()

    with pytest.raises(asyncio.CancelledError):
        await answered(leaving, asyncio.Event().wait)
