"""The items of a conversation in OpenAI's shapes: one message is one item, and one for each tool that it calls. Pure.

``msg_<message_seq>`` is a message, ``fc_<message_seq>_<index>`` a call in it, ``fco_<message_seq>`` what a tool said.
``msg_`` names any of them by its ``message_seq``.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from producers.http.refused import RequestRefused
from schemas.branches import Node
from schemas.errors import invalid_request
from schemas.events import NO_PARENT
from schemas.messages import Role
from schemas.ports import StoredMessage

ITEM_PREFIX: Final = "msg_"
ROOT: Final = "root"
ITEMS_MAX: Final = 100
ITEMS_DEFAULT: Final = 20

_SEQ_MAX: Final = (1 << 63) - 1
_ITEM_ID: Final = re.compile(r"(?:msg|fco)_([0-9]{1,19})|fc_([0-9]{1,19})_([0-9]{1,3})", re.ASCII)


class ItemPlace(NamedTuple):
    """Where an item is: its message, and which of the calls in it, if it is one."""

    message_seq: int
    call: int | None


def parse_item_id(text: str | None, param: str = "after") -> int | None:
    """The ``message_seq`` of an item id, None for None. Raises RequestRefused (400) for a malformed one."""
    place = parse_item_place(text, param)
    return None if place is None else place.message_seq


def parse_item_place(text: str | None, param: str) -> ItemPlace | None:
    """The place that an item id names, None for None. Raises RequestRefused (400) for a malformed one."""
    place = None if text is None else item_place(text)
    if text is not None and place is None:
        raise RequestRefused(invalid_request(f"'{param}' is not the id of an item.", param, "invalid_value"))
    return place


def parse_parent_id(text: str | None) -> int | None:
    """``Turn.parent_seq`` of a client's ``parent_id``: an item's id, or ``root``. Raises RequestRefused (400)."""
    return NO_PARENT if text == ROOT else parse_item_id(text, "parent_id")


def item_place(text: str) -> ItemPlace | None:
    """The place that an item id names, or None for what is no item id."""
    form = _ITEM_ID.fullmatch(text)
    if form is None:
        return None
    message, calling, call = form.groups()
    seq = int(message or calling)
    return ItemPlace(seq, None if call is None else int(call)) if seq <= _SEQ_MAX else None


def resolved_parents(nodes: Sequence[Node]) -> Mapping[int, int]:
    """The parent of each of ``nodes`` (oldest first), with those that are not named."""
    parents: dict[int, int] = {}
    before = NO_PARENT
    for node in nodes:
        parents[node.message_seq] = before if node.parent_seq is None else node.parent_seq
        before = node.message_seq
    return parents


def items_of(stored: StoredMessage, parent_seq: int) -> list[dict[str, Any]]:
    """The items of one message, in its order."""
    about = {
        "status": _status(stored),
        "turn_id": stored.turn_id,
        "parent_id": None if parent_seq == NO_PARENT else f"{ITEM_PREFIX}{parent_seq}",
        "created_at": stored.created_at_ms // 1000,
    }
    message = stored.message
    if message.role is Role.TOOL:
        output = {"call_id": message.tool_call_id, "output": message.content.text}
        return [{"id": f"fco_{stored.message_seq}", "type": "function_call_output", **output, **about}]
    calls = [
        {
            "id": f"fc_{stored.message_seq}_{index}",
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments.text,
            **about,
        }
        for index, call in enumerate(message.tool_calls)
    ]
    return calls if calls and not message.content.text else [_message(stored, about), *calls]


def find_item(stored: StoredMessage, parent_seq: int, place: ItemPlace) -> dict[str, Any] | None:
    """The item at ``place`` of its message; a message that only calls tools is shown by its first call."""
    items = items_of(stored, parent_seq)
    if place.call is None:
        return items[0]
    wanted = f"fc_{place.message_seq}_{place.call}"
    return next((item for item in items if item["id"] == wanted), None)


def list_of(items: Sequence[Mapping[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A page of anything with ids."""
    return {
        "object": "list",
        "data": list(items),
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }


def _message(stored: StoredMessage, about: Mapping[str, Any]) -> dict[str, Any]:
    text = stored.message.content.text
    content: dict[str, Any] = {"type": "input_text", "text": text}
    if stored.message.role is Role.ASSISTANT:
        content = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item = {
        "id": f"{ITEM_PREFIX}{stored.message_seq}",
        "type": "message",
        "role": stored.message.role.value,
        "content": [content],
        **about,
    }
    return item if stored.message.name is None else {**item, "name": stored.message.name}


def _status(stored: StoredMessage) -> str:
    if stored.streaming:
        return "in_progress"
    return "completed" if stored.complete else "incomplete"
