"""A conversation as one text, made piece by piece while its messages are read."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from pydantic_core import to_json

from producers.conversations.items import items_of
from schemas.messages import Role
from schemas.ports import StoredMessage

Batches = AsyncIterator[Sequence[StoredMessage]]

_SPEAKERS: Final[Mapping[Role, str]] = {
    Role.SYSTEM: "System",
    Role.DEVELOPER: "Developer",
    Role.USER: "User",
    Role.ASSISTANT: "Assistant",
    Role.TOOL: "Tool",
}
_HEADING: Final = "## "


async def json_export(
    conversation: Mapping[str, Any], parents: Mapping[int, int], batches: Batches
) -> AsyncIterator[str]:
    """One object with all items; ``parent_id`` tells their tree. ``parents``: as ``items.resolved_parents``."""
    yield '{"object":"conversation.export","conversation":' + to_json(conversation).decode() + ',"items":['
    separator = ""
    async for messages in batches:
        for stored in messages:
            for item in items_of(stored, parents[stored.message_seq]):
                yield separator + to_json(item).decode()
                separator = ","
    yield "]}"


async def markdown_export(conversation: Mapping[str, Any], batches: Batches) -> AsyncIterator[str]:
    """A heading for the conversation and one for each message, with what was said as it is."""
    yield f"# {conversation['title'] or conversation['id']}\n"
    async for messages in batches:
        for stored in messages:
            yield markdown_of(stored)


def markdown_of(stored: StoredMessage) -> str:
    """One message in Markdown."""
    message = stored.message
    parts = [f"\n{_HEADING}{_SPEAKERS[message.role]}\n"]
    if message.content.text:
        parts.append(f"\n{_escaped(message.content.text)}\n")
    parts.extend(f"\n    {call.name}({call.arguments.text})\n" for call in message.tool_calls)
    return "".join(parts)


def _escaped(text: str) -> str:
    # A line that begins like a heading of ours would look like another speaker.
    return "\n".join(f"\\{line}" if line.startswith(_HEADING) else line for line in text.splitlines())
