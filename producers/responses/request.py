"""The body of ``POST /v1/responses``, strictly typed, and the turn that it asks for.

Fields of OpenAI's CreateResponse keep their names and meanings. Fields not named here arrive in ``model_extra`` and are
judged by ``producers.responses.parameters``.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, Tag
from pydantic_core import to_json

from producers.chat_completions.parameters import refuse_extra
from producers.chat_completions.request import END_USER_CHARS_MAX
from producers.chat_completions.tools import TOOLS_MAX, check_tools
from producers.conversations.item_input import Item, messages_of
from producers.http.metadata import Metadata
from producers.http.refused import RequestRefused
from producers.http.validation import LIST_TAG, TEXT_TAG, discriminator, parse_body
from producers.ingest.turn_request import TurnRequest
from producers.responses.parameters import HARMLESS_VALUES
from producers.responses.tools import (
    Choice,
    FunctionTool,
    TextSettings,
    read_format,
    read_tool,
    read_tool_choice,
)
from schemas.content import Content
from schemas.errors import invalid_request
from schemas.generation import TOP_LOGPROBS_MAX, Generation, ReasoningEffort, Sampling
from schemas.messages import Message, Role

ITEMS_MAX: Final = 2048
LOGPROBS: Final = "message.output_text.logprobs"
# What some clients always ask to have included; there is none of it here.
Included = Literal["message.output_text.logprobs", "reasoning.encrypted_content"]

_CLOSED: Final = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)


class ConversationParam(BaseModel):
    """The conversation that the response belongs to."""

    model_config = _CLOSED

    id: str


class Reasoning(BaseModel):
    """How much the model is to think; there are no summaries of it."""

    model_config = _CLOSED

    effort: ReasoningEffort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class StreamOptions(BaseModel):
    """How to stream. ``include_obfuscation`` is accepted; events are never padded."""

    model_config = _CLOSED

    include_obfuscation: bool | None = None


Input = Annotated[
    Annotated[str, Tag(TEXT_TAG)]
    | Annotated[tuple[Item, ...], Field(min_length=1, max_length=ITEMS_MAX), Tag(LIST_TAG)],
    discriminator("a string or a list of items"),
]


class ResponseRequest(BaseModel):
    """A request for a response. None means absent everywhere, as in OpenAI's API."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow", allow_inf_nan=False, hide_input_in_errors=True)

    model: str = Field(min_length=1)
    input: Input
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationParam | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_logprobs: int | None = Field(default=None, ge=0, le=TOP_LOGPROBS_MAX)
    tools: Annotated[tuple[FunctionTool, ...], Field(max_length=TOOLS_MAX)] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    text: TextSettings | None = None
    reasoning: Reasoning | None = None
    include: Annotated[tuple[Included, ...], Field(max_length=8)] | None = None
    user: str | None = Field(default=None, max_length=END_USER_CHARS_MAX)
    safety_identifier: str | None = Field(default=None, max_length=END_USER_CHARS_MAX)
    # A hint for caches that changes no answer: ours is keyed by the conversation.
    prompt_cache_key: str | None = Field(default=None, max_length=END_USER_CHARS_MAX)

    @property
    def conversation_id(self) -> str | None:
        """The conversation, in whichever form it was named."""
        return self.conversation.id if isinstance(self.conversation, ConversationParam) else self.conversation

    @property
    def stored(self) -> bool:
        """Whether the response is kept; it is unless the client says no."""
        return self.store is not False


def parse_request(body: bytes) -> ResponseRequest:
    """The request in ``body``, free of what would have to be ignored. Raises RequestRefused (400)."""
    request = parse_body(ResponseRequest, body)
    refuse_extra(request.model_extra, HARMLESS_VALUES)
    _check(request)
    return request


def turn_request(request: ResponseRequest) -> TurnRequest:
    """The turn that ``request`` asks for, but for what it continues. Raises RequestRefused (400)."""
    tools = tuple(read_tool(tool, f"tools[{index}]") for index, tool in enumerate(request.tools or ()))
    choice = read_tool_choice(request.tool_choice)
    check_tools(tools, choice)
    return TurnRequest(
        api="responses",
        model=request.model,
        messages=_messages(request),
        instructions=None if request.instructions is None else Content(request.instructions),
        max_tokens=request.max_output_tokens,
        output_param="max_output_tokens",
        messages_param="input",
        sampling=Sampling(temperature=request.temperature, top_p=request.top_p),
        generation=Generation(
            logprobs=bool(request.top_logprobs) or LOGPROBS in (request.include or ()),
            top_logprobs=request.top_logprobs or 0,
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=request.parallel_tool_calls,
            response_format=None if request.text is None else read_format(request.text),
            reasoning_effort=None if request.reasoning is None else request.reasoning.effort,
            verbosity=None if request.text is None else request.text.verbosity,
        ),
        stored=request.stored,
        conversation_id=request.conversation_id,
        end_user=request.safety_identifier or request.user,
        shown=Content(to_json(_shown(request)).decode()),
        stream=bool(request.stream),
        background=bool(request.background),
    )


def _messages(request: ResponseRequest) -> tuple[Message, ...]:
    if isinstance(request.input, str):
        return (Message(role=Role.USER, content=Content(request.input)),)
    return messages_of(request.input)


def _check(request: ResponseRequest) -> None:
    if request.conversation is not None and request.previous_response_id is not None:
        raise _invalid("Give 'conversation' or 'previous_response_id', not both.", "previous_response_id")
    if request.conversation is not None and not request.stored:
        raise _invalid("A response of a conversation is always stored: omit 'store'.", "store")
    if request.background and not request.stored:
        raise _invalid("A response in the background must be stored: omit 'store'.", "background")
    if request.stream_options is not None and not request.stream:
        raise _invalid("'stream_options' is only allowed when 'stream' is true.", "stream_options")


def _shown(request: ResponseRequest) -> dict[str, Any]:
    """What the response shows of its request, with OpenAI's defaults."""
    text: dict[str, Any] = {} if request.text is None else request.text.model_dump(by_alias=True, exclude_none=True)
    choice = request.tool_choice
    conversation = request.conversation_id
    return {
        "background": bool(request.background),
        "conversation": None if conversation is None else {"id": conversation},
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": None,
        "metadata": request.metadata or {},
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": request.previous_response_id,
        "prompt_cache_key": request.prompt_cache_key,
        "reasoning": {"effort": request.reasoning.effort if request.reasoning else None, "summary": None},
        "safety_identifier": request.safety_identifier,
        "service_tier": "default",
        "store": request.stored,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "text": {"format": {"type": "text"}, "verbosity": "medium"} | text,
        "tool_choice": "auto" if choice is None else choice if isinstance(choice, str) else choice.model_dump(),
        "tools": [tool.model_dump() for tool in request.tools or ()],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "truncation": "auto",
        "user": request.user,
    }


def _invalid(message: str, param: str) -> RequestRefused:
    return RequestRefused(invalid_request(message, param, "invalid_value"))
