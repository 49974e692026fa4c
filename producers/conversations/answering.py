"""Asking again: an edited question, or the same one. Both are turns that come after an earlier message. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import from_json, to_json

from producers.chat_completions.request import ChatRequest, parse_request, turn_request
from producers.http.refused import RequestRefused
from producers.ingest.turn_request import TurnRequest
from schemas.errors import conversation_item_not_found, invalid_request
from schemas.messages import Role
from schemas.ports import StoredMessage

_FIXED: Final = ("messages", "conversation_id", "parent_id", "store")
_ANSWERED: Final = {"role": "user", "content": "?"}


@dataclass(frozen=True, slots=True)
class Question:
    """A stored message, and the ``message_seq`` of the one that it follows."""

    stored: StoredMessage
    parent_seq: int


def edited_turn(body: bytes, conversation_id: str, question: Question) -> TurnRequest:
    """The turn that asks something else in place of ``question``. Raises RequestRefused (400)."""
    role = question.stored.message.role
    if role in {Role.ASSISTANT, Role.TOOL}:
        raise RequestRefused(invalid_request("Only what you said can be edited.", "item_id", "invalid_value"))
    fields = _fields(body)
    if "content" not in fields:
        raise RequestRefused(
            invalid_request("Missing required parameter: 'content'.", "content", "missing_required_parameter")
        )
    message = {"role": role.value, "content": fields.pop("content")}
    request = _turn(fields, conversation_id, message)
    return request.model_copy(update={"parent_seq": question.parent_seq})


def regenerated_turn(body: bytes, conversation_id: str, question: Question) -> TurnRequest:
    """The turn that answers ``question`` once more; it is not stored again. Raises RequestRefused (400)."""
    request = _turn(_fields(body), conversation_id, _ANSWERED)
    return request.model_copy(
        update={
            "messages": (question.stored.message,),
            "parent_seq": question.parent_seq,
            "answers_seq": question.stored.message_seq,
        }
    )


def question_to_edit(path: Sequence[StoredMessage], parents: Mapping[int, int]) -> Question:
    """The last message of ``path`` (a branch, oldest first). Raises RequestRefused (404) when it is deleted."""
    return _question(path, parents, 1)


def question_to_answer(path: Sequence[StoredMessage], parents: Mapping[int, int]) -> Question:
    """The last message of ``path``, or the one that it answers. Raises RequestRefused (404)."""
    answers = bool(path) and path[-1].message.role is Role.ASSISTANT
    return _question(path, parents, 2 if answers else 1)


def _question(path: Sequence[StoredMessage], parents: Mapping[int, int], from_end: int) -> Question:
    if len(path) < from_end or any(stored.deleted for stored in path[-from_end:]):
        raise RequestRefused(conversation_item_not_found())
    stored = path[-from_end]
    return Question(stored, parents[stored.message_seq])


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = from_json(body)
    except ValueError:
        raise RequestRefused(invalid_request("The request body is not valid JSON.", code="invalid_json")) from None
    if not isinstance(fields, dict):
        raise RequestRefused(invalid_request("The request body is not a JSON object.", code="invalid_type"))
    for name in _FIXED:
        if name in fields:
            raise RequestRefused(
                invalid_request(f"'{name}' follows from the item here: omit it.", name, "unknown_parameter")
            )
    return fields


def _turn(fields: Mapping[str, Any], conversation_id: str, message: Mapping[str, Any]) -> TurnRequest:
    whole = {**fields, "messages": [message], "conversation_id": conversation_id}
    return turn_request(parse_request(to_json(whole)))


def body_schema(*, content: bool) -> dict[str, Any]:
    """The JSON Schema of a body: a chat completion's without what follows from the item, with ``content`` or not."""
    schema = ChatRequest.model_json_schema()
    properties = {name: each for name, each in schema["properties"].items() if name not in _FIXED}
    required = [name for name in schema.get("required", ()) if name not in _FIXED]
    if content:
        properties["content"] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}
        required.append("content")
    return {**schema, "properties": properties, "required": required}
