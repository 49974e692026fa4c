"""Conversations for their owners: what is stored of them, and what may be done with it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers
from starlette.requests import Request

from producers.conversations import core
from producers.conversations.answering import (
    edited_turn,
    question_to_answer,
    question_to_edit,
    regenerated_turn,
)
from producers.conversations.exports import json_export, markdown_export
from producers.conversations.item_input import Items, messages_of
from producers.conversations.items import find_item, item_place, list_of, resolved_parents
from producers.conversations.ports import ConversationChange, ConversationPorts, TreeNode
from producers.http.body import read_body
from producers.http.metadata import Metadata
from producers.http.refused import RequestRefused
from producers.http.validation import parse_body
from producers.ingest.core import IngestSettings
from producers.ingest.ports import IngestPorts
from producers.ingest.stage import AccountOf, Ingest
from producers.ingest.turn_request import TurnRequest
from schemas import ids
from schemas.errors import conversation_item_not_found, conversation_not_found
from schemas.events import NO_PARENT
from schemas.models import AUTO
from schemas.ports import Owner, StoredMessage
from schemas.tokens import Cleared

_STRICT: Final = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)
Title = Field(default=None, max_length=core.TITLE_CHARS_MAX)


class ConversationBody(BaseModel):
    """The body that makes a conversation; ``title`` is ours."""

    model_config = _STRICT

    metadata: Metadata | None = None
    items: Items | None = None
    title: str | None = Title


class ChangeBody(BaseModel):
    """The body that changes one. A ``title`` of null is that of the first question again."""

    model_config = _STRICT

    metadata: Metadata | None = None
    title: str | None = Title


class ItemsBody(BaseModel):
    """The body that adds items."""

    model_config = _STRICT

    items: Items = Field(min_length=1)


class Conversations:
    """The conversations of the edge's users. Raises RequestRefused for the client's part and Retryable for ours."""

    def __init__(
        self,
        ingest: Ingest,
        ports: IngestPorts,
        stores: ConversationPorts,
        *,
        settings: core.ConversationsSettings,
        bodies: IngestSettings,
    ) -> None:
        """``bodies`` has the bounds of request bodies."""
        self._ingest = ingest
        self._ports = ports
        self._stores = stores
        self._settings = settings
        self._bodies = bodies

    async def create(self, request: Request) -> dict[str, Any]:
        """A conversation, with its first items if there are any."""
        owner = await self._caller(request.headers)
        body = parse_body(ConversationBody, await self._body(request) or b"{}")
        change = ConversationChange(body.title or None, body.metadata)
        now_ms = self._ports.now_ms()
        if body.items:
            cleared = await self._add(request.headers, body.items, None)
            await self._stores.records.change(owner, cleared.conversation_id, change, now_ms)
            return await self._shown(owner, cleared.conversation_id)
        conversation_id = ids.new_conversation_id(now_ms, self._ports.entropy(ids.CONVERSATION_ENTROPY_BYTES))
        await self._stores.records.create(owner, conversation_id, change, now_ms)
        return await self._shown(owner, conversation_id)

    async def listed(self, headers: Headers, wish: core.PageWish, query: str | None) -> dict[str, Any]:
        """A page of the caller's conversations."""
        owner = await self._caller(headers)
        listed = await self._stores.records.newest(owner, self._settings.conversations_listed_max)
        page, has_more = core.page_of_conversations(listed, wish, query)
        found = await self._stores.records.find(owner, [one.conversation_id for one in page])
        shown = [core.conversation_object(each, stored) for each, stored in found.items()]
        return list_of(shown, has_more=has_more)

    async def show(self, headers: Headers, conversation_id: str) -> dict[str, Any]:
        """One of the caller's conversations, with the turn that runs in it, if one does."""
        owner = await self._owner(headers, conversation_id)
        shown = await self._shown(owner, conversation_id)
        return {**shown, "active_turn_id": await self._active_turn(conversation_id)}

    async def change(self, request: Request, conversation_id: str) -> dict[str, Any]:
        """Rename it, replace its metadata, or both."""
        owner = await self._owner(request.headers, conversation_id)
        body = parse_body(ChangeBody, await self._body(request))
        given = body.model_fields_set
        if not given:
            raise RequestRefused(core.nothing_to_change())
        change = ConversationChange(
            title=(body.title or "") if "title" in given else None,
            metadata=(body.metadata or {}) if "metadata" in given else None,
        )
        await self._stores.records.change(owner, conversation_id, change, self._ports.now_ms())
        return await self._shown(owner, conversation_id)

    async def delete(self, headers: Headers, conversation_id: str) -> dict[str, Any]:
        """Delete it for good. A turn that runs in it is cancelled."""
        owner = await self._owner(headers, conversation_id)
        await self._stores.contexts.drop(conversation_id)
        await self._stores.records.delete(owner, conversation_id, self._ports.now_ms())
        running = await self._active_turn(conversation_id)
        if running is not None:
            await self._ports.canceller.cancel(ids.parse_turn_id(running), "client")
        # Somebody may have read the history in between.
        await self._stores.contexts.drop(conversation_id)
        return {"id": conversation_id, "object": "conversation.deleted", "deleted": True}

    async def items(self, headers: Headers, conversation_id: str, wish: core.ItemsWish) -> dict[str, Any]:
        """A page of its items."""
        await self._owner(headers, conversation_id)
        nodes = await self._nodes(conversation_id)
        seqs = core.page_of_seqs(core.chosen_nodes(nodes, wish), wish)
        messages = await self._stores.tree.messages(conversation_id, seqs)
        return core.page_of_items(messages, resolved_parents(nodes), wish)

    async def add_items(self, request: Request, conversation_id: str) -> dict[str, Any]:
        """Items at the end of its newest branch; nobody answers them."""
        await self._owner(request.headers, conversation_id)
        body = parse_body(ItemsBody, await self._body(request))
        cleared = await self._add(request.headers, body.items, conversation_id)
        seqs = [cleared.message_seq + index for index in range(len(cleared.input))]
        wish = core.ItemsWish(limit=len(body.items), order="asc", after=None, everywhere=True, leaf=None)
        messages = await self._stores.tree.messages(conversation_id, seqs)
        first = NO_PARENT if cleared.parent_seq is None else cleared.parent_seq
        parents = {seq: seq - 1 for seq in seqs} | {cleared.message_seq: first}
        return core.page_of_items(messages, parents, wish)

    async def item(self, headers: Headers, conversation_id: str, item_id: str) -> dict[str, Any]:
        """One item."""
        await self._owner(headers, conversation_id)
        place = item_place(item_id)
        stored = None if place is None else await self._message(conversation_id, place.message_seq)
        if place is None or stored is None or stored.deleted:
            raise RequestRefused(conversation_item_not_found())
        parent_seq = await self._parent(conversation_id, stored)
        item = find_item(stored, parent_seq, place)
        if item is None:
            raise RequestRefused(conversation_item_not_found())
        return item

    async def delete_item(self, headers: Headers, conversation_id: str, item_id: str) -> dict[str, Any]:
        """Delete what an item says, for good; what follows it stays. The conversation, as OpenAI answers."""
        owner = await self._owner(headers, conversation_id)
        place = item_place(item_id)
        if place is None or await self._message(conversation_id, place.message_seq) is None:
            raise RequestRefused(conversation_item_not_found())
        await self._stores.tree.delete(conversation_id, place.message_seq, self._ports.now_ms())
        await self._stores.contexts.drop(conversation_id)
        return await self._shown(owner, conversation_id)

    async def export(self, headers: Headers, conversation_id: str, *, markdown: bool) -> AsyncIterator[str]:
        """The conversation as one text, piece by piece: the whole tree as JSON, or the newest branch in Markdown."""
        owner = await self._owner(headers, conversation_id)
        shown = await self._shown(owner, conversation_id)
        nodes = await self._nodes(conversation_id)
        wanted = core.branch_of(nodes, None) if markdown else nodes
        batches = self._batches(conversation_id, [node.message_seq for node in wanted if not node.deleted])
        if markdown:
            return markdown_export(shown, batches)
        return json_export(shown, resolved_parents(nodes), batches)

    async def edited(self, conversation_id: str, item_id: str, body: bytes, account_of: AccountOf) -> TurnRequest:
        """The turn that ``body`` asks for in place of an item. Raises RequestRefused (400, 404)."""
        path, parents = await self._path(conversation_id, item_id, account_of)
        return edited_turn(body, conversation_id, question_to_edit(path, parents))

    async def regenerated(self, conversation_id: str, item_id: str, body: bytes, account_of: AccountOf) -> TurnRequest:
        """The turn that answers an item, or what it answered, once more. Raises RequestRefused (400, 404)."""
        path, parents = await self._path(conversation_id, item_id, account_of)
        return regenerated_turn(body, conversation_id, question_to_answer(path, parents))

    async def _path(
        self, conversation_id: str, item_id: str, account_of: AccountOf
    ) -> tuple[Sequence[StoredMessage], Mapping[int, int]]:
        """The end of the branch up to an item, and all parents."""
        account = await account_of()
        await self._check(Owner(account.tenant_id, account.user_id), conversation_id)
        place = item_place(item_id)
        if place is None:
            raise RequestRefused(conversation_item_not_found())
        nodes = await self._nodes(conversation_id)
        seqs = [node.message_seq for node in core.branch_of(nodes, place.message_seq)][-core.QUESTION_DEPTH_MAX :]
        return await self._stores.tree.messages(conversation_id, seqs), resolved_parents(nodes)

    async def _caller(self, headers: Headers) -> Owner:
        account = await self._ingest.callers.account(headers)
        return Owner(account.tenant_id, account.user_id)

    async def _owner(self, headers: Headers, conversation_id: str) -> Owner:
        caller = await self._caller(headers)
        await self._check(caller, conversation_id)
        return caller

    async def _check(self, caller: Owner, conversation_id: str) -> None:
        """Raises RequestRefused (404): the conversation is not the caller's, or not any more."""
        known = ids.is_conversation_id(conversation_id)
        owners = await self._ports.conversations.owners((conversation_id,)) if known else {}
        if owners.get(conversation_id) != caller:
            raise RequestRefused(conversation_not_found())

    async def _shown(self, owner: Owner, conversation_id: str) -> dict[str, Any]:
        found = await self._stores.records.find(owner, (conversation_id,))
        return core.conversation_object(conversation_id, found.get(conversation_id))

    async def _active_turn(self, conversation_id: str) -> str | None:
        noted = (await self._stores.active.active((conversation_id,))).get(conversation_id, ())
        # The note of a turn may outlive it: the log has the last word.
        for turn_id in reversed(noted):
            state = self._ports.states.state(turn_id) or await self._ports.lookup.find(turn_id)
            if state.cleared is not None and state.terminal is None:
                return ids.public_turn_id(turn_id)
        return None

    async def _nodes(self, conversation_id: str) -> Sequence[TreeNode]:
        return await self._stores.tree.nodes(conversation_id, self._settings.messages_walked_max)

    async def _message(self, conversation_id: str, message_seq: int) -> StoredMessage | None:
        return next(iter(await self._stores.tree.messages(conversation_id, (message_seq,))), None)

    async def _parent(self, conversation_id: str, stored: StoredMessage) -> int:
        if stored.parent_seq is not None:
            return stored.parent_seq
        return resolved_parents(await self._nodes(conversation_id))[stored.message_seq]

    async def _batches(self, conversation_id: str, seqs: Sequence[int]) -> AsyncIterator[Sequence[StoredMessage]]:
        size = self._settings.export_batch_messages
        for start in range(0, len(seqs), size):
            yield await self._stores.tree.messages(conversation_id, seqs[start : start + size])

    async def _add(self, headers: Headers, items: Items, conversation_id: str | None) -> Cleared:
        request = TurnRequest(
            model=AUTO,
            messages=messages_of(items),
            max_tokens=1,
            messages_param="items",
            stored=True,
            conversation_id=conversation_id,
            wants_answer=False,
        )
        return await self._ingest.store(request, headers, self._settings.addition_seconds_max)

    async def _body(self, request: Request) -> bytes:
        bounds = self._bodies
        return await read_body(request.headers, request.receive, bounds.body_bytes_max, bounds.body_seconds_max)
