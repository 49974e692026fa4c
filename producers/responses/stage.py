"""What the routes of responses do, beside making turns."""

from typing import Any, Final

from starlette.datastructures import Headers

from producers.conversations.items import items_of
from producers.http.refused import RequestRefused
from producers.ingest.ports import IngestPorts
from producers.ingest.stage import AccountOf, Ingest
from producers.ingest.stored_turns import own_messages
from producers.ingest.turn_finder import not_found
from producers.ingest.turn_request import TurnRequest
from producers.responses.request import ResponseRequest, parse_request, turn_request
from schemas import ids
from schemas.accounts import Account
from schemas.errors import ErrorBody, ErrorType, Refusal, invalid_request
from schemas.events import Api
from schemas.ports import StoredAnswer
from schemas.tokens import Cancelled, Cleared

API: Final[Api] = "responses"


class Responses:
    """The responses of this edge's callers. Methods raise RequestRefused and Retryable."""

    def __init__(self, ingest: Ingest, ports: IngestPorts) -> None:
        self._ingest = ingest
        self._ports = ports

    async def understand(self, body: bytes, account_of: AccountOf) -> TurnRequest:
        """The turn that a request for a response asks for, with what it continues."""
        request = parse_request(body)
        turn = turn_request(request)
        if request.previous_response_id is None:
            return turn
        before = await self._previous(request, await account_of())
        # It names what it follows, so it need not wait for others that follow the same.
        return turn.model_copy(
            update={"conversation_id": before.conversation_id, "parent_seq": before.answer_seq, "concurrent": True}
        )

    async def show(self, headers: Headers, response_id: str) -> bytes:
        """The response as it stands, as JSON."""
        account = await self._ingest.callers.account(headers)
        stored = await self._stored(account, response_id)
        if stored is not None:
            return self._ports.answerer.show(stored)
        cleared = await self._running(account, response_id)
        # Whoever cancelled it reads that it is, before the store knows.
        ended = await self._ingest.terminal(cleared.turn_id)
        status = "cancelled" if isinstance(ended, Cancelled) else "in_progress"
        return self._ports.answerer.show_running(cleared, status)

    async def cancel(self, headers: Headers, response_id: str) -> bytes:
        """End the response, unless it has ended; then it is as it ended."""
        account = await self._ingest.callers.account(headers)
        stored = await self._stored(account, response_id)
        if stored is not None:
            return self._ports.answerer.show(stored)
        cleared = await self._running(account, response_id)
        cancelled = await self._ingest.cancel(account, API, response_id)
        # If it has just ended otherwise, the store will have it in a moment.
        return self._ports.answerer.show_running(cleared, "cancelled" if cancelled else "in_progress")

    async def delete(self, headers: Headers, response_id: str) -> dict[str, Any]:
        """Delete the response. Its messages stay with their conversation."""
        account = await self._ingest.callers.account(headers)
        stored = await self._stored(account, response_id)
        if stored is None:
            await self._running(account, response_id)
            raise RequestRefused(_still_running())
        await self._ports.stored.delete(stored)
        return {"id": response_id, "object": "response", "deleted": True}

    async def input_items(self, headers: Headers, response_id: str) -> list[dict[str, Any]]:
        """The items of the response's own input, oldest first."""
        account = await self._ingest.callers.account(headers)
        stored = await self._stored(account, response_id)
        if stored is None:
            await self._running(account, response_id)
            raise RequestRefused(_still_running())
        return [item for message in await own_messages(self._ports, stored) for item in items_of(message, -1)]

    async def _previous(self, request: ResponseRequest, account: Account) -> StoredAnswer:
        asked = request.previous_response_id or ""
        try:
            stored = await self._stored(account, asked)
            if stored is None:
                await self._running(account, asked)
        except RequestRefused:
            raise RequestRefused(_previous_not_found()) from None
        if stored is None:
            raise RequestRefused(_previous_running())
        return stored

    async def _stored(self, account: Account, response_id: str) -> StoredAnswer | None:
        finder = self._ingest.finder
        return await finder.find_stored(account, API, finder.turn_id(API, response_id))

    async def _running(self, account: Account, response_id: str) -> Cleared:
        cleared = await self._ingest.finder.running(account, API, ids.parse_response_id(response_id))
        if cleared is None or not cleared.stored:
            raise RequestRefused(not_found(API))
        return cleared


def _previous_not_found() -> Refusal:
    return invalid_request(
        "The previous response does not exist.", "previous_response_id", "previous_response_not_found"
    )


def _previous_running() -> Refusal:
    body = ErrorBody(
        message="The previous response is not complete yet. Retry when it is.",
        type=ErrorType.CONFLICT,
        param="previous_response_id",
        code="previous_response_in_progress",
    )
    return Refusal(status=409, error=body, retry_after_s=1)


def _still_running() -> Refusal:
    body = ErrorBody(
        message="The response is not complete yet. Cancel it or wait for its end.",
        type=ErrorType.CONFLICT,
        param="id",
        code="response_in_progress",
    )
    return Refusal(status=409, error=body)
