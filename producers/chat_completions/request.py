"""The body of ``POST /v1/chat/completions``, strictly typed, and the turn that it asks for.

Fields of OpenAI's CreateChatCompletionRequest keep their names and meanings; ``conversation_id`` and ``parent_id`` are
ours. Fields not named here arrive in ``model_extra`` and are judged by ``producers.chat_completions.parameters``.
"""

from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import to_json

from producers.chat_completions.messages import ChatMessage, read_messages
from producers.chat_completions.parameters import HARMLESS_VALUES, refuse_extra
from producers.chat_completions.tools import (
    TOOLS_MAX,
    AnswerFormat,
    Choice,
    Tool,
    check_tools,
    function_tool,
    response_format,
    tool_choice,
)
from producers.conversations.items import parse_parent_id
from producers.http.metadata import Metadata
from producers.http.refused import RequestRefused
from producers.http.validation import parse_body
from producers.ingest.turn_request import TurnRequest
from schemas.content import Content
from schemas.errors import invalid_request
from schemas.generation import CHOICES_MAX, PLAIN, TOP_LOGPROBS_MAX, Generation, ReasoningEffort, Sampling, Verbosity

STOPS_MAX: Final = 4
STOP_CHARS_MAX: Final = 256
END_USER_CHARS_MAX: Final = 256
SEED_BITS: Final = 63
BIASES_MAX: Final = 1024
_UNSAMPLED: Final = Sampling()
# What a stored completion shows of its request.
SHOWN: Final = (
    "frequency_penalty",
    "metadata",
    "n",
    "presence_penalty",
    "response_format",
    "seed",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
)


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
Biases = Annotated[
    dict[Annotated[str, Field(pattern=r"^[0-9]{1,7}$")], Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=BIASES_MAX),
]


class StreamOptions(BaseModel):
    """How to stream. ``include_obfuscation`` is accepted; frames are never padded."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(BaseModel):
    """A chat completion request. None means absent everywhere, as in OpenAI's API."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="allow",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        serialize_by_alias=True,
    )

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
    logit_bias: Biases | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=TOP_LOGPROBS_MAX)
    n: int | None = Field(default=None, ge=1, le=CHOICES_MAX)
    seed: int | None = Field(default=None, ge=-(1 << SEED_BITS), lt=1 << SEED_BITS)
    stop: Stops = ()
    tools: Annotated[tuple[Tool, ...], Field(max_length=TOOLS_MAX)] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    response_format: AnswerFormat | None = None
    reasoning_effort: ReasoningEffort | None = None
    verbosity: Verbosity | None = None
    metadata: Metadata | None = None
    user: str | None = Field(default=None, max_length=END_USER_CHARS_MAX)
    safety_identifier: str | None = Field(default=None, max_length=END_USER_CHARS_MAX)
    # A hint for caches that changes no answer: ours is keyed by the conversation.
    prompt_cache_key: str | None = Field(default=None, max_length=END_USER_CHARS_MAX)
    store: bool | None = None
    conversation_id: str | None = None
    parent_id: str | None = None


def parse_request(body: bytes) -> ChatRequest:
    """The request in ``body``, free of parameters that would have to be ignored. Raises RequestRefused (400)."""
    request = parse_body(ChatRequest, body)
    refuse_extra(request.model_extra, HARMLESS_VALUES)
    return request


def turn_request(request: ChatRequest) -> TurnRequest:
    """The turn that ``request`` asks for. Raises RequestRefused (400)."""
    _check_options(request)
    stored = request.conversation_id is not None or bool(request.store)
    return TurnRequest(
        model=request.model,
        messages=read_messages(request.messages, complete=request.conversation_id is None),
        max_tokens=request.max_tokens if request.max_tokens is not None else request.max_completion_tokens,
        output_param="max_tokens" if request.max_tokens is not None else "max_completion_tokens",
        sampling=_sampling(request),
        generation=_generation(request),
        stored=stored,
        conversation_id=request.conversation_id,
        parent_seq=parse_parent_id(request.parent_id),
        end_user=request.safety_identifier or request.user,
        shown=_shown(request) if stored else None,
        stream=bool(request.stream),
        include_usage=bool(request.stream_options and request.stream_options.include_usage),
    )


def _shown(request: ChatRequest) -> Content | None:
    shown = {name: value for name in SHOWN if (value := getattr(request, name)) is not None}
    return Content(to_json(shown).decode()) if shown else None


def _check_options(request: ChatRequest) -> None:
    if request.stream_options is not None and not request.stream:
        raise _invalid("'stream_options' is only allowed when 'stream' is true.", "stream_options")
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise _invalid("Set 'max_completion_tokens' or 'max_tokens', not both.", "max_completion_tokens")
    if request.top_logprobs and not request.logprobs:
        raise _invalid("'top_logprobs' needs 'logprobs' to be true.", "top_logprobs")
    if request.metadata and not request.store and request.conversation_id is None:
        raise _invalid("'metadata' is kept with stored completions only: set 'store'.", "metadata")
    if request.conversation_id is not None and request.store is False:
        raise _invalid("A turn of a conversation is always stored: omit 'store'.", "store")
    if request.parent_id is not None and request.conversation_id is None:
        raise _invalid("'parent_id' is a message of the conversation 'conversation_id'.", "parent_id")


def _sampling(request: ChatRequest) -> Sampling:
    if request.model_fields_set.isdisjoint(Sampling.model_fields):
        return _UNSAMPLED
    return Sampling(
        temperature=request.temperature,
        top_p=request.top_p,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        seed=request.seed,
        stop=request.stop,
        logit_bias=request.logit_bias or {},
    )


def _generation(request: ChatRequest) -> Generation:
    if request.model_fields_set.isdisjoint(Generation.model_fields):
        return PLAIN
    tools = tuple(
        function_tool(tool.function, f"tools[{index}].function") for index, tool in enumerate(request.tools or ())
    )
    choice = tool_choice(request.tool_choice)
    check_tools(tools, choice)
    return Generation(
        n=request.n or 1,
        logprobs=bool(request.logprobs),
        top_logprobs=request.top_logprobs or 0,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=request.parallel_tool_calls,
        response_format=response_format(request.response_format),
        reasoning_effort=request.reasoning_effort,
        verbosity=request.verbosity,
    )


def _invalid(message: str, param: str) -> RequestRefused:
    return RequestRefused(invalid_request(message, param, "invalid_value"))
