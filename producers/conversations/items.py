"""The pages of ``GET /v1/conversations/{id}/items``, in OpenAI's list shape. Pure."""

from collections.abc import Sequence
from typing import Any, Final

from producers.http.refused import RequestRefused
from schemas.errors import invalid_request
from schemas.events import NO_PARENT
from schemas.messages import Role
from schemas.ports import StoredMessage

ITEM_PREFIX: Final = "msg_"
ROOT: Final = "root"
ITEMS_MAX: Final = 100
ITEMS_DEFAULT: Final = 20

_SEQ_DIGITS_MAX: Final = 19


def parse_item_id(text: str | None, param: str = "after") -> int | None:
    """The ``message_seq`` of an item id, None for None. Raises RequestRefused (400) for a malformed one."""
    if text is None:
        return None
    digits = text.removeprefix(ITEM_PREFIX)
    if digits == text or not (digits.isascii() and digits.isdecimal()) or len(digits) > _SEQ_DIGITS_MAX:
        raise RequestRefused(invalid_request(f"'{param}' is not the id of an item.", param, "invalid_value"))
    return int(digits)


def parse_parent_id(text: str | None) -> int | None:
    """``Turn.parent_seq`` of a client's ``parent_id``: an item's id, or ``root``. Raises RequestRefused (400)."""
    return NO_PARENT if text == ROOT else parse_item_id(text, "parent_id")


def page_of(messages: Sequence[StoredMessage], limit: int) -> dict[str, Any]:
    """The page of the first ``limit`` messages; one message more than that says that there are more."""
    data = [_item(message) for message in messages[:limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(messages) > limit,
    }


def _item(stored: StoredMessage) -> dict[str, Any]:
    kind = "output_text" if stored.message.role is Role.ASSISTANT else "input_text"
    return {
        "id": f"{ITEM_PREFIX}{stored.message_seq}",
        "type": "message",
        "role": stored.message.role.value,
        "status": "completed" if stored.complete else "incomplete",
        "content": [{"type": kind, "text": stored.message.content.text}],
        "turn_id": stored.turn_id,
        "created_at": stored.created_at_ms // 1000,
    }
