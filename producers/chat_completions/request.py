"""The body of ``POST /v1/chat/completions`` as far as it is supported, strictly typed.

Fields of OpenAI's CreateChatCompletionRequest keep their names and meanings; ``conversation_id`` is ours.
Fields not named here arrive in ``model_extra`` and are judged by ``producers.chat_completions.parameters``.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError
from pydantic_core import ErrorDetails

from schemas.content import Content
from schemas.errors import Refusal, invalid_request
from schemas.messages import Message, Role

STOPS_MAX: Final = 4
STOP_CHARS_MAX: Final = 256
NAME_CHARS_MAX: Final = 64
END_USER_CHARS_MAX: Final = 256
SEED_BITS: Final = 63
TEXT_PARTS_MAX: Final = 256
# Several text parts are several paragraphs of one message.
PART_SEPARATOR: Final = "\n"

# Tags of the content union; the angle brackets keep them apart from field names in error locations.
_TEXT: Final = "<text>"
_PARTS: Final = "<parts>"

_STRICT: Final = ConfigDict(strict=True, frozen=True, extra="allow", allow_inf_nan=False, hide_input_in_errors=True)


class TextPart(BaseModel):
    """One part of a message's content; only text is supported."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)

    type: Literal["text"]
    text: str


def _content_kind(content: Any) -> str | None:
    if isinstance(content, str):
        return _TEXT
    return _PARTS if isinstance(content, list | tuple) else None


MessageContent = Annotated[
    Annotated[str, Tag(_TEXT)]
    | Annotated[tuple[TextPart, ...], Field(min_length=1, max_length=TEXT_PARTS_MAX), Tag(_PARTS)],
    Discriminator(
        _content_kind,
        custom_error_type="content_type",
        custom_error_message="Input should be a string or a list of text parts",
    ),
]


def _one_or_many(stop: Any) -> Any:
    if stop is None:
        return ()
    if isinstance(stop, str):
        return (stop,)
    return tuple(stop) if isinstance(stop, list) else stop


Stops = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=STOP_CHARS_MAX)], ...],
    Field(max_length=STOPS_MAX),
    BeforeValidator(_one_or_many, json_schema_input_type=str | list[str] | None),
]


class ChatMessage(BaseModel):
    """One message of the request."""

    model_config = _STRICT

    role: Role
    content: MessageContent
    name: str | None = Field(default=None, max_length=NAME_CHARS_MAX)

    def message(self) -> Message:
        """The message as it travels on the log; text parts are joined by a line break."""
        text = self.content if isinstance(self.content, str) else PART_SEPARATOR.join(p.text for p in self.content)
        return Message(role=self.role, content=Content(text), name=self.name)


class StreamOptions(BaseModel):
    """How to stream. ``include_obfuscation`` is accepted; frames are never padded."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(BaseModel):
    """A chat completion request. None means absent everywhere, as in OpenAI's API."""

    model_config = _STRICT

    model: str = Field(min_length=1)
    messages: tuple[ChatMessage, ...] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    seed: int | None = Field(default=None, ge=-(1 << SEED_BITS), lt=1 << SEED_BITS)
    stop: Stops = ()
    user: str | None = Field(default=None, max_length=END_USER_CHARS_MAX)
    safety_identifier: str | None = Field(default=None, max_length=END_USER_CHARS_MAX)
    store: bool | None = None
    conversation_id: str | None = None


def explain(error: ValidationError) -> Refusal:
    """The first problem of a body as OpenAI's error object; names the field, never repeats a value."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if problem["type"] == "json_invalid":
        return invalid_request("The request body is not valid JSON.", code="invalid_json")
    param = _path(problem) or None
    if problem["type"] == "missing":
        return invalid_request(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
    if problem["type"] == "extra_forbidden":
        return invalid_request(f"Unknown parameter: '{param}'.", param, "unknown_parameter")
    code = "invalid_type" if problem["type"].endswith("_type") else "invalid_value"
    return invalid_request(f"Invalid value for '{param or 'body'}': {problem['msg']}.", param, code)


def _path(problem: ErrorDetails) -> str:
    path = ""
    for step in problem["loc"]:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step not in {_TEXT, _PARTS}:
            path += f".{step}" if path else step
    return path[: 2 * NAME_CHARS_MAX]
