"""What the conversations API decides: pages, lists, titles, exports. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from producers.conversations.items import ItemPlace, items_of, list_of
from producers.conversations.ports import ListedConversation, StoredConversation, TreeNode
from producers.http.refused import RequestRefused
from schemas import ids
from schemas.branches import walk
from schemas.errors import Refusal, conversation_item_not_found, invalid_request
from schemas.ports import StoredMessage

CONVERSATIONS_MAX: Final = 100
CONVERSATIONS_DEFAULT: Final = 20
QUERY_CHARS_MAX: Final = 256
TITLE_CHARS_MAX: Final = 256
ALL_BRANCHES: Final = "all"
# A message that is answered again, and its answer.
QUESTION_DEPTH_MAX: Final = 2

Order = Literal["asc", "desc"]


class ConversationsSettings(BaseModel):
    """Bounds of the conversations API."""

    model_config = ConfigDict(frozen=True)

    conversations_listed_max: int = Field(
        default=10_000, ge=1, description="Of one user: lists and searches look at the newest so many, by creation."
    )
    messages_walked_max: int = Field(
        default=50_000, ge=1, description="Of one conversation: listings and exports look at the newest so many."
    )
    export_batch_messages: int = Field(default=100, ge=1, le=1_000, description="Read at once for an export.")
    addition_seconds_max: float = Field(default=30.0, gt=0, description="Until items that were added are stored.")


@dataclass(frozen=True, slots=True)
class PageWish:
    """Which part of a list: up to ``limit`` of what comes strictly after ``after``."""

    limit: int
    order: Order
    after: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class ItemsWish:
    """Which items: of one branch (that ends with ``leaf``, None: the newest message) or of all."""

    limit: int
    order: Order
    after: ItemPlace | None
    everywhere: bool
    leaf: int | None


def conversation_object(conversation_id: str, stored: StoredConversation | None) -> dict[str, Any]:
    """OpenAI's object, with our ``title`` and ``updated_at``. None: it has just begun, nothing is kept of it yet."""
    created_ms = ids.conversation_time_ms(conversation_id)
    updated_ms = max(created_ms, stored.updated_at_ms) if stored else created_ms
    return {
        "id": conversation_id,
        "object": "conversation",
        "created_at": created_ms // 1000,
        "metadata": dict(stored.metadata) if stored else {},
        "title": stored.title if stored else None,
        "updated_at": updated_ms // 1000,
    }


def page_of_conversations(
    listed: Sequence[ListedConversation], wish: PageWish, query: str | None
) -> tuple[Sequence[ListedConversation], bool]:
    """A page of those that are not deleted and whose title has ``query`` in it, and whether more follow.

    The last activity first; ``asc`` turns the list around. A place in it is named by a conversation, which may have
    been deleted meanwhile. Raises RequestRefused (400) for one that was never in it.
    """
    ordered = sorted(listed, key=lambda one: (one.updated_at_ms, one.conversation_id), reverse=wish.order == "desc")
    places = {one.conversation_id: place for place, one in enumerate(ordered)}
    start = 0 if wish.after is None else _place(places, wish.after, "after") + 1
    stop = len(ordered) if wish.before is None else _place(places, wish.before, "before")
    sought = (query or "").casefold()
    shown = [one for one in ordered[start:stop] if not one.deleted and sought in (one.title or "").casefold()]
    if wish.before is not None and wish.after is None:
        # The page right before the place, as one leafs back.
        return shown[-wish.limit :], len(shown) > wish.limit
    return shown[: wish.limit], len(shown) > wish.limit


def chosen_nodes(nodes: Sequence[TreeNode], wish: ItemsWish) -> Sequence[TreeNode]:
    """The nodes (oldest first) that the wish is about, deleted ones left out. Raises RequestRefused (404)."""
    chosen: Sequence[TreeNode] = nodes
    if not wish.everywhere:
        chosen = branch_of(nodes, wish.leaf)
    return [node for node in chosen if not node.deleted]


def branch_of(nodes: Sequence[TreeNode], leaf: int | None) -> Sequence[TreeNode]:
    """The branch that ends with ``leaf``, or with the newest message. Raises RequestRefused (404)."""
    if not nodes:
        return ()
    if leaf is not None and all(node.message_seq != leaf for node in nodes):
        raise RequestRefused(conversation_item_not_found())
    return walk(nodes, nodes[-1].message_seq if leaf is None else leaf, len(nodes)).path


def page_of_seqs(nodes: Sequence[TreeNode], wish: ItemsWish) -> list[int]:
    """The messages to read for a page, in its order: one more than its limit, that of ``after`` included."""
    seqs = [node.message_seq for node in nodes]
    if wish.order == "desc":
        seqs.reverse()
    if wish.after is not None:
        start = wish.after.message_seq
        seqs = [seq for seq in seqs if (seq >= start if wish.order == "asc" else seq <= start)]
    return seqs[: wish.limit + 2]


def page_of_items(messages: Sequence[StoredMessage], parents: Mapping[int, int], wish: ItemsWish) -> dict[str, Any]:
    """The page, from the messages that ``page_of_seqs`` named."""
    found: list[dict[str, Any]] = []
    for stored in messages:
        items = items_of(stored, parents[stored.message_seq])
        ordered: Sequence[dict[str, Any]] = items if wish.order == "asc" else items[::-1]
        if wish.after is not None and stored.message_seq == wish.after.message_seq:
            ordered = _beyond(ordered, wish.after)
        found.extend(ordered)
    return list_of(found[: wish.limit], has_more=len(found) > wish.limit)


def nothing_to_change() -> Refusal:
    """400: a body that changes nothing."""
    return invalid_request("Give 'metadata', 'title' or both.", "metadata", "missing_required_parameter")


def _place(places: Mapping[str, int], conversation_id: str, param: str) -> int:
    if conversation_id not in places:
        raise RequestRefused(invalid_request(f"'{param}' is none of your conversations.", param, "invalid_value"))
    return places[conversation_id]


def _beyond(items: Sequence[dict[str, Any]], place: ItemPlace) -> Sequence[dict[str, Any]]:
    """What follows ``place`` among the items of its message; a message's own id stands for its last item."""
    if place.call is None:
        return items[1:] if items and items[0]["type"] == "message" and len(items) > 1 else ()
    wanted = f"fc_{place.message_seq}_{place.call}"
    for index, item in enumerate(items):
        if item["id"] == wanted:
            return items[index + 1 :]
    return ()
