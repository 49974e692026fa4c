"""How an answer is to be generated: sampling, tools, form. Fields have OpenAI's names and meanings."""

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import Field

from schemas.content import Content
from schemas.event import Event, unset

CHOICES_MAX: Final = 8
TOP_LOGPROBS_MAX: Final = 20

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
Verbosity = Literal["low", "medium", "high"]


class Sampling(Event):
    """How to draw tokens; None leaves a choice to the model."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    seed: int | None = None
    stop: tuple[str, ...] = Field(default=(), max_length=4)
    logit_bias: Mapping[str, float] = Field(
        default_factory=dict, exclude_if=unset, description="Per token id, -100 to 100."
    )


class FunctionTool(Event):
    """A function that the model may ask to have called; ``parameters`` is its JSON Schema, as JSON text."""

    name: str
    description: Content | None = None
    parameters: Content | None = None
    strict: bool | None = None


class ToolChoice(Event):
    """Whether and what the model is to call. ``function`` names the one, ``allowed`` bounds them."""

    mode: Literal["none", "auto", "required"] = "auto"
    function: str | None = None
    allowed: tuple[str, ...] = Field(default=(), exclude_if=unset)


class ResponseFormat(Event):
    """The form of the answer; ``json_schema`` is a JSON Schema, as JSON text, of the kind of that name."""

    kind: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    description: Content | None = None
    json_schema: Content | None = None
    strict: bool | None = None


class Generation(Event):
    """What is to be generated, beside how tokens are drawn."""

    n: int = Field(default=1, ge=1, le=CHOICES_MAX, description="Choices: answers to the same prompt.")
    logprobs: bool = Field(default=False, exclude_if=unset)
    top_logprobs: int = Field(default=0, ge=0, le=TOP_LOGPROBS_MAX, exclude_if=unset)
    tools: tuple[FunctionTool, ...] = Field(default=(), exclude_if=unset)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: ReasoningEffort | None = None
    verbosity: Verbosity | None = None

    @property
    def constrained(self) -> bool:
        """Whether a grammar holds the answer: then it cannot be continued from its text alone."""
        return self.response_format is not None and self.response_format.kind != "text"


PLAIN: Final = Generation()


def is_plain(generation: Generation) -> bool:
    """Whether nothing but one text is asked for."""
    # Most turns have this very object: their record does not mention it.
    return generation is PLAIN or generation == PLAIN


class ToolCallDelta(Event):
    """A piece of a tool call; the first of its ``index`` has id and name, all add to the arguments."""

    index: int = Field(ge=0)
    id: str | None = None
    name: str | None = None
    arguments: Content | None = None


class TopLogprob(Event):
    """A token that might have been drawn, with its log probability."""

    token: Content
    logprob: float


class TokenLogprob(Event):
    """A token of the answer with its log probability, and the likeliest at its place."""

    token: Content
    logprob: float
    top: tuple[TopLogprob, ...] = Field(default=(), exclude_if=unset)
