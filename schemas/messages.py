"""Messages: what users, models and tools say to each other."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from pydantic import Field, TypeAdapter

from schemas.content import Content
from schemas.event import Event, unset


class Role(StrEnum):
    """Who speaks, in OpenAI's terms."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class ToolCall(Event):
    """A function that the model wants called; ``arguments`` is the JSON text that it wrote, valid or not."""

    id: str
    name: str
    arguments: Content


class Message(Event):
    """One message of a conversation or a prompt. A tool's message answers the call ``tool_call_id``."""

    role: Role
    content: Content
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = Field(
        default=(), exclude_if=unset, description="What the assistant wanted called, in its order."
    )
    tool_call_id: str | None = None


_TOOL_CALLS: Final = TypeAdapter(tuple[ToolCall, ...])


def encode_tool_calls(calls: Sequence[ToolCall]) -> str | None:
    """The calls as a column of a table holds them: JSON, or None for no call."""
    return _TOOL_CALLS.dump_json(tuple(calls)).decode() if calls else None


def decode_tool_calls(text: str | None) -> tuple[ToolCall, ...]:
    """The calls that ``encode_tool_calls`` wrote."""
    return _TOOL_CALLS.validate_json(text) if text else ()
