"""What Chat Completions answers, as ``/openapi.json`` tells it: OpenAI's shapes and the fields that we add."""

from typing import Literal

from pydantic import BaseModel, Field

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class PromptTokens(BaseModel):
    """A part of the prompt's tokens."""

    cached_tokens: int


class CompletionUsage(BaseModel):
    """Tokens of one turn, summed over its choices."""

    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    total_tokens: int = Field(ge=0)
    prompt_tokens_details: PromptTokens


class TopLogprob(BaseModel):
    """One candidate for a token."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """A token of the answer and the likeliest candidates in its place."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(BaseModel):
    """The log probabilities of a choice."""

    content: list[TokenLogprob] | None
    refusal: list[TokenLogprob] | None


class CalledFunction(BaseModel):
    """A function that the model wants called."""

    name: str
    arguments: str = Field(description="JSON, as the model wrote it.")


class ToolCall(BaseModel):
    """One tool call; its result comes back as a message of the role `tool`."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class CompletionMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    tool_calls: list[ToolCall] = Field(default=[], description="Absent when there are none.")


class CompletionChoice(BaseModel):
    """One of `n` answers."""

    index: int = Field(ge=0)
    message: CompletionMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """The whole answer."""

    id: str = Field(pattern="^chatcmpl-")
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[CompletionChoice] = Field(min_length=1)
    usage: CompletionUsage | None = Field(description="Null when the answer was cancelled.")
    system_fingerprint: str | None
    conversation_id: str | None = Field(default=None, description="Of a stored turn.")
    cancelled: str | None = Field(default=None, description="Why the answer was stopped, if it was.")


class CancelledCompletion(BaseModel):
    """Whether a turn is cancelled now; not if it had ended otherwise."""

    id: str
    object: Literal["chat.completion.cancelled"]
    cancelled: bool


class DeletedCompletion(BaseModel):
    """A stored completion that is gone."""

    id: str
    object: Literal["chat.completion.deleted"]
    deleted: Literal[True]


class StoredMessage(BaseModel):
    """A message that a stored completion was asked with."""

    id: str
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str
    name: str | None
