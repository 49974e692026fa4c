"""Items as a client sends them, and the messages that they become. Strictly typed; what is not supported is refused."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from schemas.content import Content
from schemas.messages import Message, Role, ToolCall

ITEMS_ADDED_MAX: Final = 20
PARTS_MAX: Final = 256
CALL_ID_CHARS_MAX: Final = 64
NAME_CHARS_MAX: Final = 128
PART_SEPARATOR: Final = "\n"

_STRICT: Final = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)
Status = Literal["in_progress", "completed", "incomplete"]


class TextPart(BaseModel):
    """A part of a message's content. What comes with a text that an API gave out may come back with it."""

    model_config = _STRICT

    type: Literal["input_text", "output_text", "text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


def _content_kind(content: Any) -> str:
    return "<text>" if isinstance(content, str) else "<parts>"


Text = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[tuple[TextPart, ...], Field(min_length=1, max_length=PARTS_MAX), Tag("<parts>")],
    Discriminator(_content_kind),
]


class GivenOut(BaseModel):
    """What an item has that was given out before: it may come back with it, and it means nothing here."""

    model_config = _STRICT

    id: str | None = None
    status: Status | None = None
    turn_id: str | None = None
    parent_id: str | None = None
    created_at: int | None = None


class MessageItem(GivenOut):
    """A message."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Text
    name: str | None = Field(default=None, max_length=NAME_CHARS_MAX)
    phase: str | None = None


class FunctionCallItem(GivenOut):
    """A call that an assistant wanted."""

    type: Literal["function_call"]
    call_id: str = Field(min_length=1, max_length=CALL_ID_CHARS_MAX)
    name: str = Field(min_length=1, max_length=NAME_CHARS_MAX)
    arguments: str


class FunctionCallOutputItem(GivenOut):
    """What a called function said."""

    type: Literal["function_call_output"]
    call_id: str = Field(min_length=1, max_length=CALL_ID_CHARS_MAX)
    output: Text


def _item_kind(item: Any) -> str:
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    return f"<{kind or 'message'}>"


Item = Annotated[
    Annotated[MessageItem, Tag("<message>")]
    | Annotated[FunctionCallItem, Tag("<function_call>")]
    | Annotated[FunctionCallOutputItem, Tag("<function_call_output>")],
    Discriminator(
        _item_kind,
        custom_error_type="item_type",
        custom_error_message="Input should be a message, a function_call or a function_call_output",
    ),
]
Items = Annotated[tuple[Item, ...], Field(max_length=ITEMS_ADDED_MAX)]


def messages_of(items: tuple[Item, ...]) -> tuple[Message, ...]:
    """The messages that ``items`` become: one each, but calls that stand side by side are of one message."""
    messages: list[Message] = []
    for item in items:
        message = _message_of(item)
        if message.tool_calls and messages and messages[-1].tool_calls:
            message = message.model_copy(update={"tool_calls": (*messages.pop().tool_calls, *message.tool_calls)})
        messages.append(message)
    return tuple(messages)


def _message_of(item: Item) -> Message:
    match item:
        case MessageItem():
            return Message(role=Role(item.role), content=Content(_text_of(item.content)), name=item.name)
        case FunctionCallItem():
            call = ToolCall(id=item.call_id, name=item.name, arguments=Content(item.arguments))
            return Message(role=Role.ASSISTANT, content=Content(""), tool_calls=(call,))
        case FunctionCallOutputItem():
            return Message(role=Role.TOOL, content=Content(_text_of(item.output)), tool_call_id=item.call_id)


def _text_of(content: Text) -> str:
    return content if isinstance(content, str) else PART_SEPARATOR.join(part.text for part in content)
