"""Ingest: what a request to the edge does, on the ports of the edge process."""

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from producers.http.body import read_body
from producers.http.callers import Callers
from producers.http.exchange import exchange_of, link_of
from producers.http.origins import Origins, origin_key
from producers.http.refused import RequestRefused
from producers.ingest.admission import Admission
from producers.ingest.core import STAGE, IngestSettings
from producers.ingest.idempotency import KeyHasher, read_key
from producers.ingest.once import Asker, Begun, OnceOnly
from producers.ingest.ports import IngestPorts
from producers.ingest.resuming import Resumer, Resumption
from producers.ingest.storing import until_stored
from producers.ingest.submitting import Sender, Submitter
from producers.ingest.turn_finder import TurnFinder, not_found, owns
from producers.ingest.turn_request import TurnRequest
from schemas import ids
from schemas.accounts import Account
from schemas.cursors import cursor_key
from schemas.events import Api
from schemas.ports import ClientChannel, Metrics
from schemas.tokens import Cancelled, Cleared, Terminal

_IDEMPOTENCY_KEY: Final = "idempotency-key"
_REQUEST_ID: Final = "x-request-id"
_TRACEPARENT: Final = "traceparent"

AccountOf = Callable[[], Awaitable[Account]]
# The turn that a body asks for; the account is there for whoever must look something of the caller's up.
Understand = Callable[[bytes, AccountOf], Awaitable[TurnRequest]]


class Ingest:
    """The requests of the edge. Every method raises RequestRefused for the client's part and Retryable for ours."""

    def __init__(
        self,
        ports: IngestPorts,
        settings: IngestSettings,
        *,
        callers: Callers,
        pepper: bytes,
        tokens_partitions: int,
        admission: Admission,
    ) -> None:
        self.callers: Final = callers
        self._ports = ports
        self._settings = settings
        self._admission = admission
        self._origins = Origins(origin_key(pepper), settings.trusted_proxies)
        self._submitter = Submitter(ports, settings, admission.forecast)
        self._once = OnceOnly(ports, settings, self._submitter, KeyHasher(pepper))
        self.finder: Final = TurnFinder(ports, settings, tokens_partitions)
        self._resumer = Resumer(ports, self.finder, cursor_key=cursor_key(pepper))
        self._counted_refusals = _CountedRefusals(ports.metrics)

    async def take_turn(self, understand: Understand, scope: Scope, receive: Receive, send: Send) -> None:
        """One turn, from its request to the last byte of its answer."""
        with self._counted_refusals, self._admission.slot(queued=True):
            answering = await self._begin_answer(understand, scope, receive, send)
            await answering

    async def resume_completion(self, asked: Resumption, scope: Scope, _receive: Receive, send: Send) -> None:
        """The rest of a turn of the caller's, as a stream."""
        with self._counted_refusals, self._admission.slot(queued=False):
            account = await self.callers.account(Headers(scope=scope))
            await self._resumer.resume(account, asked, _channel(scope, send))

    async def read_body(self, headers: Headers, receive: Receive) -> bytes:
        """The body of a request, within this edge's bounds. Raises RequestRefused (400, 408, 413)."""
        settings = self._settings
        return await read_body(headers, receive, settings.body_bytes_max, settings.body_seconds_max)

    async def cancel(self, account: Account, api: Api, public_id: str) -> bool:
        """End a turn of the caller's, if it has not ended; whether it ended by being cancelled.

        Raises RequestRefused (404) for a turn that is not on the log, or not the caller's.
        """
        turn_id = self.finder.turn_id(api, public_id)
        state = self._ports.states.state(turn_id) or await self._ports.lookup.find(turn_id)
        if state.cleared is None or not owns(account, state.cleared):
            raise RequestRefused(not_found(api))
        if state.terminal is None:
            await self._ports.canceller.cancel(turn_id, "client")
        return state.terminal is None or isinstance(state.terminal, Cancelled)

    async def terminal(self, turn_id: str) -> Terminal | None:
        """How a turn has ended by the log, or None. Raises Retryable."""
        state = self._ports.states.state(turn_id) or await self._ports.lookup.find(turn_id)
        return state.terminal

    async def store(self, request: TurnRequest, headers: Headers, seconds_max: float) -> Cleared:
        """A turn that wants no answer, until the history shows it: its clearance says where."""
        with self._counted_refusals, self._admission.slot(queued=False):
            sender = Sender(self.callers.credential(headers), headers.get(_TRACEPARENT))
            begun = await self._begin(request, sender, _key(headers))
            try:
                return await until_stored(begun.reader, seconds_max)
            finally:
                # It waits for no GPU.
                self._admission.started(begun.submission.event.turn.turn_id)

    async def _begin_answer(
        self, understand: Understand, scope: Scope, receive: Receive, send: Send
    ) -> Coroutine[Any, Any, None]:
        """The answer to a turn that is on the log now. Nothing of its request is held while it is written."""
        headers = Headers(scope=scope)
        exchange = exchange_of(scope)
        credential = exchange.credential or self.callers.credential(headers)
        # A malformed key is told before the body is read.
        key = _key(headers)
        body = await self.read_body(headers, receive)
        request = await understand(body, lambda: self.callers.resolve(credential))
        sender = Sender(credential, headers.get(_TRACEPARENT), self._origins.origin(scope))
        begun = await self._begin(request, sender, key)
        submission = begun.submission
        turn = submission.event.turn
        exchange.turn_id, exchange.replayed = ids.public_turn_id(turn.turn_id), begun.joined
        # The request is understood: its headers need not be kept for as long as the answer streams.
        scope["headers"] = ()
        return self._ports.answerer.answer(turn, begun.reader, _channel(scope, send), submission.form)

    async def _begin(self, request: TurnRequest, sender: Sender, key: str | None) -> Begun:
        if key is None:
            return await self._once.begin_new(request, sender)
        asker = Asker(sender, await self.callers.resolve(sender.credential), key)
        return await self._once.begin(request, asker)


class _CountedRefusals(AbstractContextManager[None]):
    """The same for every request."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, RequestRefused):
            code = error.refusal.error.code or "none"
            self._metrics.count("turnstream_refusals_total", stage=STAGE, code=code)


def _channel(scope: Scope, send: Send) -> ClientChannel:
    link = link_of(scope)
    if link is None:
        raise RuntimeError("answers are written through turnstream.http_server alone")
    return ClientChannel(send, link)


def _key(headers: Headers) -> str | None:
    return read_key(headers.getlist(_IDEMPOTENCY_KEY), headers.getlist(_REQUEST_ID))
