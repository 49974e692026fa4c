"""The messages of a chat completion request, strictly typed, and what they become."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, Tag

from producers.chat_completions.parameters import HARMLESS_MESSAGE_VALUES, refuse_extra
from producers.chat_completions.tools import TOOLS_MAX, FunctionName
from producers.http.refused import RequestRefused
from producers.http.validation import LIST_TAG, TEXT_TAG, discriminator
from schemas.content import Content
from schemas.errors import Refusal, invalid_request
from schemas.messages import Message, Role, ToolCall

NAME_CHARS_MAX: Final = 64
TEXT_PARTS_MAX: Final = 256
CALL_ID_CHARS_MAX: Final = 128
# Several text parts are several paragraphs of one message.
PART_SEPARATOR: Final = "\n"

_CLOSED: Final = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)
# Their extra fields are judged by ``HARMLESS_MESSAGE_VALUES``.
_OPEN: Final = ConfigDict(strict=True, frozen=True, extra="allow", hide_input_in_errors=True)


class TextPart(BaseModel):
    """One part of a message's content; only text is supported."""

    model_config = _CLOSED

    type: Literal["text"]
    text: str


class RefusalPart(BaseModel):
    """What a model said when it declined."""

    model_config = _CLOSED

    type: Literal["refusal"]
    refusal: str

    @property
    def text(self) -> str:
        """The same as any other text."""
        return self.refusal


Part = Annotated[
    Annotated[TextPart, Tag(TEXT_TAG)] | Annotated[RefusalPart, Tag("<refusal>")],
    discriminator("a part of type text"),
]
MessageContent = Annotated[
    Annotated[str, Tag(TEXT_TAG)]
    | Annotated[tuple[Part, ...], Field(min_length=1, max_length=TEXT_PARTS_MAX), Tag(LIST_TAG)],
    discriminator("a string or a list of text parts"),
]


class CalledFunction(BaseModel):
    """The function of a call, and its arguments as JSON text."""

    model_config = _CLOSED

    name: FunctionName
    arguments: str


class CalledTool(BaseModel):
    """A call that an assistant's message holds. ``index`` is what some clients keep from the stream."""

    model_config = _CLOSED

    id: str = Field(min_length=1, max_length=CALL_ID_CHARS_MAX)
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class ChatMessage(BaseModel):
    """One message of the request."""

    model_config = _OPEN

    role: Role
    content: MessageContent | None = None
    name: str | None = Field(default=None, max_length=NAME_CHARS_MAX)
    refusal: str | None = None
    tool_calls: Annotated[tuple[CalledTool, ...], Field(max_length=TOOLS_MAX)] | None = None
    tool_call_id: str | None = Field(default=None, min_length=1, max_length=CALL_ID_CHARS_MAX)

    @property
    def text(self) -> str | None:
        """What it says; parts are joined by a line break."""
        if self.content is None:
            return self.refusal
        return self.content if isinstance(self.content, str) else PART_SEPARATOR.join(p.text for p in self.content)


def read_messages(messages: tuple[ChatMessage, ...], *, complete: bool) -> tuple[Message, ...]:
    """The messages as they travel. Raises RequestRefused (400).

    ``complete``: no stored message comes before these, so that what a tool answers must be among them.
    """
    calls: set[str] = set()
    read: list[Message] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        refuse_extra(message.model_extra, HARMLESS_MESSAGE_VALUES, f"{where}.")
        _check(message, where, calls if complete else None)
        calls.update(call.id for call in message.tool_calls or ())
        read.append(_message(message))
    return tuple(read)


def _check(message: ChatMessage, where: str, calls: set[str] | None) -> None:
    if message.text is None and not message.tool_calls:
        raise RequestRefused(
            invalid_request(
                f"Missing required parameter: '{where}.content'.", f"{where}.content", "missing_required_parameter"
            )
        )
    if message.tool_calls and message.role is not Role.ASSISTANT:
        raise _misplaced(where, "tool_calls", "assistant")
    if message.role is Role.TOOL:
        if message.tool_call_id is None:
            param = f"{where}.tool_call_id"
            raise RequestRefused(
                invalid_request(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
            )
        if calls is not None and message.tool_call_id not in calls:
            raise RequestRefused(_answers_nothing(where))
    elif message.tool_call_id is not None:
        raise _misplaced(where, "tool_call_id", "tool")


def _message(message: ChatMessage) -> Message:
    return Message(
        role=message.role,
        content=Content(message.text or ""),
        name=message.name,
        tool_calls=tuple(
            ToolCall(id=call.id, name=call.function.name, arguments=Content(call.function.arguments))
            for call in message.tool_calls or ()
        ),
        tool_call_id=message.tool_call_id,
    )


def _misplaced(where: str, name: str, role: str) -> RequestRefused:
    param = f"{where}.{name}"
    return RequestRefused(
        invalid_request(f"'{param}' is for messages of the role '{role}' alone.", param, "invalid_value")
    )


def _answers_nothing(where: str) -> Refusal:
    return invalid_request(
        f"'{where}' has the role 'tool' and must answer one of the 'tool_calls' of a message before it.",
        f"{where}.tool_call_id",
        "invalid_value",
    )


def message_json(message: Message) -> dict[str, Any]:
    """A message in the shape of this API, as its client gets it back."""
    shown: dict[str, Any] = {"role": message.role.value, "content": message.content.text, "name": message.name}
    if message.tool_calls:
        shown["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments.text}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        shown["tool_call_id"] = message.tool_call_id
    return shown
