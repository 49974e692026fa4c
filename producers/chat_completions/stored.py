"""Completions that are stored: listed, shown, labelled, deleted."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.requests import Request

from producers.chat_completions.messages import message_json
from producers.http.metadata import MetadataUpdate
from producers.http.paging import Order, listed
from producers.http.refused import RequestRefused
from producers.http.validation import parse_body
from producers.ingest.ports import IngestPorts
from producers.ingest.stage import Ingest
from producers.ingest.stored_turns import metadata_of, own_messages
from producers.ingest.turn_finder import not_found
from schemas.accounts import Account
from schemas.errors import invalid_request
from schemas.events import CHAT, FinishReason
from schemas.ids import parse_turn_id, public_turn_id
from schemas.ports import StoredAnswer

METADATA_PREFIX: Final = "metadata["
# Turns of one user that are looked through for one page, when few of them are what is wanted.
SCANNED_MAX: Final = 1_000


class StoredCompletions:
    """The stored completions of this edge's callers. Methods raise RequestRefused and Retryable."""

    def __init__(self, ingest: Ingest, ports: IngestPorts) -> None:
        self._ingest = ingest
        self._ports = ports

    async def show(self, headers: Headers, completion_id: str) -> bytes:
        """The completion, as JSON."""
        return self._ports.answerer.show(await self._find(headers, completion_id))

    async def page(
        self, request: Request, model: str | None, *, limit: int, after: str | None, order: Order
    ) -> dict[str, Any]:
        """A page of the completions of ``model``, if one is named, with the metadata that the query wants."""
        headers, wanted = request.headers, wanted_metadata(request.query_params)
        account = await self._ingest.callers.account(headers)
        found: list[StoredAnswer] = []
        place, scanned, more = _place(after), 0, True
        while more and len(found) <= limit and scanned < SCANNED_MAX:
            turn_ids = await self._ports.stored.of_user(
                (account.tenant_id, account.user_id), CHAT, place, limit + 1, newest_first=order == "desc"
            )
            read = await self._ports.stored.find_all(turn_ids)
            found += [stored for stored in read if _is_wanted(stored, model, wanted)]
            more = len(turn_ids) > limit
            place, scanned = (turn_ids[-1] if turn_ids else place), scanned + len(turn_ids)
        objects = [json.loads(self._ports.answerer.show(stored)) for stored in found[:limit]]
        return listed(objects, has_more=more or len(found) > limit)

    async def set_metadata(self, request: Request, completion_id: str) -> bytes:
        """Replace the metadata; the completion with it, as JSON."""
        stored = await self._find(request.headers, completion_id)
        body = await self._ingest.read_body(request.headers, request.receive)
        metadata = parse_body(MetadataUpdate, body).metadata or {}
        await self._ports.stored.set_metadata(stored.turn_id, metadata)
        return self._ports.answerer.show(replace(stored, metadata=metadata))

    async def delete(self, headers: Headers, completion_id: str) -> dict[str, Any]:
        """Delete the completion. Its messages stay with their conversation."""
        await self._ports.stored.delete(await self._find(headers, completion_id))
        return {"id": completion_id, "object": "chat.completion.deleted", "deleted": True}

    async def messages(self, headers: Headers, completion_id: str) -> list[dict[str, Any]]:
        """The messages that the completion was asked with, oldest first."""
        stored = await self._find(headers, completion_id)
        return [
            {"id": f"{completion_id}-{index}", **message_json(message.message)}
            for index, message in enumerate(await own_messages(self._ports, stored))
        ]

    async def _find(self, headers: Headers, completion_id: str) -> StoredAnswer:
        account: Account = await self._ingest.callers.account(headers)
        stored = await self._ingest.finder.stored(account, CHAT, self._ingest.finder.turn_id(CHAT, completion_id))
        if not _is_completion(stored):
            raise RequestRefused(not_found(CHAT))
        return stored


def wanted_metadata(query: Mapping[str, str]) -> dict[str, str]:
    """The metadata that a list is asked for: ``metadata[key]=value``."""
    return {
        name.removeprefix(METADATA_PREFIX)[:-1]: value
        for name, value in query.items()
        if name.startswith(METADATA_PREFIX) and name.endswith("]")
    }


def _is_wanted(stored: StoredAnswer, model: str | None, wanted: Mapping[str, str]) -> bool:
    if not _is_completion(stored) or model not in {None, stored.model}:
        return False
    return not wanted or wanted.items() <= metadata_of(stored).items()


def _is_completion(stored: StoredAnswer) -> bool:
    # A turn that failed has no completion: its client was told so.
    return stored.api == CHAT and stored.finish_reason is not FinishReason.FAILED


def _place(after: str | None) -> str | None:
    if after is None:
        return None
    try:
        turn_id = parse_turn_id(after)
    except ValueError:
        turn_id = ""
    if after != public_turn_id(turn_id):
        raise RequestRefused(invalid_request("'after' is not the id of a completion.", "after", "invalid_value"))
    return turn_id
