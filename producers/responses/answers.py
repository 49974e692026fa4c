"""What Responses answers, as ``/openapi.json`` tells it: OpenAI's shapes and the fields that we add."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class OutputText(BaseModel):
    """What was said."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[Any]


class MessageOutput(BaseModel):
    """The message of a response."""

    id: str
    type: Literal["message"]
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["assistant"]
    content: list[OutputText]


class CallOutput(BaseModel):
    """A function that the model wants called; its result comes back as a `function_call_output`."""

    id: str
    type: Literal["function_call"]
    status: Literal["in_progress", "completed", "incomplete"]
    call_id: str
    name: str
    arguments: str = Field(description="JSON, as the model wrote it.")


class CachedTokens(BaseModel):
    """A part of the input's tokens."""

    cached_tokens: int
    cache_write_tokens: int


class ReasoningTokens(BaseModel):
    """A part of the output's tokens."""

    reasoning_tokens: int


class ResponseUsage(BaseModel):
    """Tokens of one response."""

    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class ResponseFailure(BaseModel):
    """Why a response failed."""

    code: str
    message: str


class Incomplete(BaseModel):
    """Why a response is incomplete."""

    reason: Literal["max_output_tokens", "content_filter"]


class ResponseObject(BaseModel):
    """A response, with what its request asked for."""

    id: str = Field(pattern="^resp_")
    object: Literal["response"]
    created_at: int
    status: Literal["queued", "in_progress", "completed", "failed", "cancelled", "incomplete"]
    error: ResponseFailure | None
    incomplete_details: Incomplete | None
    model: str
    output: list[MessageOutput | CallOutput]
    usage: ResponseUsage | None
    metadata: dict[str, str]
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    parallel_tool_calls: bool


class InputItem(BaseModel):
    """One item of the input, as in a conversation."""

    id: str
    type: str


class DeletedResponse(BaseModel):
    """A response that is gone."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]
