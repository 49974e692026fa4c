"""Ingest: what a request to the edge does, on the ports of the edge process."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import structlog
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from producers.ingest.accounts import Accounts
from producers.ingest.admission import Admission
from producers.ingest.chat_request import ChatRequest
from producers.ingest.core import (
    STAGE,
    Arrival,
    IngestSettings,
    RequestRefused,
    Submission,
    accept,
    authenticate,
    parse_request,
)
from producers.ingest.http_body import read_body
from producers.ingest.http_exchange import exchange_of
from producers.ingest.ports import Answerer, Canceller, MessagePages, TurnStates
from producers.ingest.traceparent import TRACE_ENTROPY_BYTES, accept_traceparent
from producers.ingest.turn_search import may_be_running, read_turn
from schemas import ids, serde
from schemas.errors import Refusal, conversation_not_found, invalid_request
from schemas.events import Account, Credential, TurnSubmitted
from schemas.ports import (
    AnswerReader,
    AnswerReaders,
    ConversationDirectory,
    KeyDirectory,
    LogReader,
    Metrics,
    Outgoing,
    Producer,
    StoredMessage,
)
from schemas.stream_state import StreamState
from schemas.tokens import Cancelled
from schemas.topics import TURNS_SUBMITTED

_LOG: Final = structlog.get_logger(__name__)
_AUTHORIZATION: Final = "authorization"
_TRACEPARENT: Final = "traceparent"


@dataclass(frozen=True, slots=True)
class IngestPorts:
    """The world as ingest sees it; the composition root fills it in.

    ``now_ms`` is Unix time, ``monotonic_s`` measures durations, ``entropy`` gives that many random bytes.
    """

    producer: Producer
    readers: AnswerReaders
    states: TurnStates
    answerer: Answerer
    canceller: Canceller
    log: LogReader
    keys: KeyDirectory
    conversations: ConversationDirectory
    pages: MessagePages
    metrics: Metrics
    now_ms: Callable[[], int]
    monotonic_s: Callable[[], float]
    entropy: Callable[[int], bytes]


class Ingest:
    """The requests of the edge. Every method raises RequestRefused for the client's part and Retryable for ours."""

    def __init__(
        self,
        ports: IngestPorts,
        settings: IngestSettings,
        *,
        pepper: bytes,
        tokens_partitions: int,
        admission: Admission,
    ) -> None:
        self._ports = ports
        self._settings = settings
        self._pepper = pepper
        self._tokens_partitions = tokens_partitions
        self._admission = admission
        self._accounts = Accounts(ports.keys, settings, ports.monotonic_s)

    async def create_completion(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One turn, from its request to the last byte of its answer."""
        try:
            with self._admission.slot():
                await self._take_turn(scope, receive, send)
        except RequestRefused as refused:
            code = refused.refusal.error.code or "none"
            self._ports.metrics.count("turnstream_refusals_total", stage=STAGE, code=code)
            raise

    async def account(self, headers: Headers) -> Account:
        """Who asks."""
        return await self._accounts.resolve(self._credential(headers))

    async def cancel(self, headers: Headers, public_id: str) -> dict[str, Any]:
        """End a turn of the caller's; a turn that has already ended stays as it ended."""
        account = await self.account(headers)
        turn_id = self._running_turn(public_id)
        state = self._ports.states.state(turn_id) or await read_turn(self._ports.log, turn_id, self._settings)
        if not _owns(account, state):
            raise RequestRefused(_turn_not_found())
        if state.terminal is None:
            await self._ports.canceller.cancel(turn_id, "client")
        return {
            "id": ids.public_turn_id(turn_id),
            "object": "chat.completion.cancelled",
            "cancelled": state.terminal is None or isinstance(state.terminal, Cancelled),
        }

    async def conversation_page(
        self, headers: Headers, conversation_id: str, limit: int, after: int | None, *, newest_first: bool
    ) -> Sequence[StoredMessage]:
        """Up to ``limit`` + 1 messages of a conversation of the caller's, in the asked order."""
        account = await self.account(headers)
        if not ids.is_conversation_id(conversation_id):
            raise RequestRefused(conversation_not_found())
        owner = (await self._ports.conversations.owners((conversation_id,))).get(conversation_id)
        if owner is None or (owner.tenant_id, owner.user_id) != (account.tenant_id, account.user_id):
            raise RequestRefused(conversation_not_found())
        return await self._ports.pages.page(conversation_id, limit + 1, after, newest_first=newest_first)

    async def _take_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        credential = self._credential(headers)
        settings = self._settings
        body = await read_body(headers, receive, settings.body_bytes_max, settings.body_seconds_max)
        submission, reader = self._open(parse_request(body), credential)
        turn = submission.event.turn
        exchange_of(scope).request_id = ids.public_turn_id(turn.turn_id)
        with ExitStack() as unanswered:
            unanswered.callback(reader.close)
            await self._submit(submission.event, headers.get(_TRACEPARENT))
            unanswered.pop_all()
        await self._ports.answerer.answer(
            turn, reader, receive, send, stream=submission.stream, include_usage=submission.include_usage
        )

    def _open(self, request: ChatRequest, credential: Credential) -> tuple[Submission, AnswerReader]:
        ports = self._ports
        partition = ports.readers.home_partition()
        arrival = Arrival(
            now_ms=ports.now_ms(),
            partition=partition,
            tokens_from=ports.readers.position(partition),
            turn_entropy=ports.entropy(ids.TURN_ENTROPY_BYTES),
            conversation_entropy=ports.entropy(ids.CONVERSATION_ENTROPY_BYTES),
        )
        submission = accept(request, credential, arrival, self._settings)
        return submission, ports.readers.open(submission.event.turn.turn_id)

    async def _submit(self, event: TurnSubmitted, traceparent: str | None) -> None:
        turn = event.turn
        trace = accept_traceparent(traceparent, self._ports.entropy(TRACE_ENTROPY_BYTES))
        await self._ports.producer.append(
            [
                Outgoing(
                    topic=TURNS_SUBMITTED.name,
                    key=turn.conversation_id.encode(),
                    value=serde.encode(event),
                    headers=serde.event_headers(TURNS_SUBMITTED, turn.turn_id, trace),
                )
            ]
        )
        _LOG.info("turn_submitted", turn_id=turn.turn_id, model=turn.model, stored=turn.stored)

    def _credential(self, headers: Headers) -> Credential:
        return authenticate(headers.getlist(_AUTHORIZATION), self._pepper)

    def _running_turn(self, public_id: str) -> str:
        try:
            turn_id = ids.parse_turn_id(public_id)
        except ValueError:
            raise RequestRefused(_turn_not_found()) from None
        if not may_be_running(turn_id, self._ports.now_ms(), self._tokens_partitions, self._settings):
            raise RequestRefused(_turn_not_found())
        return turn_id


def _owns(account: Account, state: StreamState) -> bool:
    # A turn that is not cleared has no known owner; its client has not been told its id yet either.
    cleared = state.cleared
    return cleared is not None and (cleared.tenant_id, cleared.user_id) == (account.tenant_id, account.user_id)


def _turn_not_found() -> Refusal:
    return invalid_request("No such completion is running.", "id", "completion_not_found", status=404)
