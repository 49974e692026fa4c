"""The events of a turn on its way from the edge to the GPU, and what is said about it afterwards.

Each event carries what the stages before it found out, so a stage reads one record and nothing else.
The events of the answer itself are in ``schemas.tokens``.
"""

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from schemas.accounts import Account, Credential
from schemas.content import Content
from schemas.event import Event, unset
from schemas.generation import PLAIN, Generation, Sampling, is_plain
from schemas.messages import Message

Api = Literal["chat_completions", "responses"]

# The parent of a message that opens a conversation (``Turn.parent_seq``).
NO_PARENT: Final = -1
CHAT: Final[Api] = "chat_completions"


def is_chat(api: Api) -> bool:
    """Whether this is the API that records do not name."""
    return api == CHAT


def is_wanted(wants_answer: bool) -> bool:  # noqa: FBT001 - pydantic calls it
    """Whether a turn is an ordinary one, of which records say nothing."""
    return wants_answer


class Turn(Event):
    """What the edge fixed when it accepted the request; no later stage changes it."""

    turn_id: str = Field(description="26 characters; carries time and home partition (schemas.ids).")
    conversation_id: str
    starts_conversation: bool = Field(description="The edge made the conversation id for this turn.")
    stored: bool = Field(description="Whether messages are kept; a stateless turn lives on the log alone.")
    model: str = Field(description="The model name as the client asked for it.")
    max_tokens: int | None = Field(default=None, ge=1, description="Completion tokens the client allows.")
    sampling: Sampling = Sampling()
    submitted_at_ms: int = Field(ge=0, description="Unix milliseconds, the edge's clock.")
    deadline_ms: int = Field(ge=0, description="Unix milliseconds after which nobody waits for an answer.")
    tokens_from: int | None = Field(
        default=None,
        ge=0,
        description="An offset in the turn's tokens partition that lies before every record of the turn.",
    )
    end_user: str | None = Field(default=None, max_length=256, description="The client's own user label.")
    origin: str | None = Field(
        default=None, pattern="^[0-9a-f]{16}$", description="A keyed hash of the client's address, never the address."
    )
    generation: Generation = Field(default=PLAIN, exclude_if=is_plain)
    api: Api = Field(default=CHAT, exclude_if=is_chat, description="In which API's terms the client speaks.")
    request: Content | None = Field(
        default=None, description="What that API shows of the request again, as JSON; for the edge alone."
    )
    instructions: Content | None = Field(
        default=None, description="System text of this turn alone; no history keeps it."
    )
    parent_seq: int | None = Field(
        default=None,
        ge=NO_PARENT,
        description="The message after which the input comes; -1: it opens the conversation; None: after the newest.",
    )
    concurrent: bool = Field(
        default=False,
        exclude_if=unset,
        description="It names what it follows and may run beside other turns of its conversation.",
    )
    answers_seq: int | None = Field(
        default=None,
        ge=0,
        description="The stored message that is answered again: the input is a copy and is not stored.",
    )
    wants_answer: bool = Field(
        default=True, exclude_if=is_wanted, description="False: the input is stored, and no model is asked."
    )


class Route(Event):
    """A model and the pool that serves it."""

    model: str
    pool: str


class TurnSubmitted(Event):
    """``chat.turns.submitted.v1``: a client's request was accepted onto the log."""

    turn: Turn
    credential: Credential
    input: tuple[Message, ...] = Field(min_length=1, description="The messages of the request, oldest first.")


class TurnAuthorized(Event):
    """``chat.turns.authorized.v1``: the account may ask this model in this conversation."""

    turn: Turn
    account: Account
    pool: str = Field(description="The inference pool that serves the model.")
    served_model: str | None = Field(default=None, description="The model that ``turn.model`` stands for, by its id.")
    fallbacks: tuple[Route, ...] = Field(
        default=(), exclude_if=unset, description="Who answers instead, in order, if the pool cannot begin."
    )
    message_seq: int = Field(ge=0, description="Sequence of the turn's first message (schemas.ids.message_seq).")
    input: tuple[Message, ...] = Field(min_length=1)


# No model: an open stream keeps this, and what pydantic notes of a model is as large as all else in it.
@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="ignore", hide_input_in_errors=True))
class RateLimits:
    """The account's quota right after this turn was counted, for the ``x-ratelimit-*`` headers."""

    limit_requests: int
    remaining_requests: int
    reset_requests_ms: Annotated[int, Field(description="Milliseconds until the requests quota is full again.")]
    limit_tokens: int
    remaining_tokens: int
    reset_tokens_ms: Annotated[int, Field(description="Milliseconds until the tokens quota is full again.")]


class TurnAdmitted(Event):
    """``chat.turns.admitted.v1``: within quota; ``reserved_tokens`` are held until usage settles them."""

    turn: Turn
    account: Account
    pool: str
    served_model: str | None = Field(default=None, description="The model that ``turn.model`` stands for, by its id.")
    fallbacks: tuple[Route, ...] = Field(
        default=(), exclude_if=unset, description="Who answers instead, in order, if the pool cannot begin."
    )
    message_seq: int = Field(ge=0)
    input: tuple[Message, ...] = Field(min_length=1)
    limits: RateLimits
    reserved_tokens: int = Field(ge=0)


class Prompt(Event):
    """What the model is given: system policy, as much history as fits, and the turn's own messages last."""

    messages: tuple[Message, ...] = Field(min_length=1)
    input_count: int = Field(ge=1, description="How many of the last messages are this turn's own input.")
    prompt_tokens: int = Field(ge=0, description="Tokens of the prompt as counted by the prompt stage.")
    max_tokens: int = Field(ge=1, description="Completion tokens that fit the model's context and the request.")
    dropped_messages: int = Field(default=0, ge=0, description="History messages that did not fit.")


class TurnPrompted(Event):
    """``chat.turns.prompted.v1``: the prompt is complete."""

    turn: Turn
    account: Account
    pool: str
    served_model: str | None = Field(default=None, description="The model that ``turn.model`` stands for, by its id.")
    fallbacks: tuple[Route, ...] = Field(
        default=(), exclude_if=unset, description="Who answers instead, in order, if the pool cannot begin."
    )
    message_seq: int = Field(ge=0)
    limits: RateLimits
    prompt: Prompt
    parent_seq: int | None = Field(
        default=None, ge=NO_PARENT, description="``turn.parent_seq``, or what it turned out to be."
    )


class InferenceRequested(Event):
    """``inference.requests.<pool>.v1``: cleared by moderation, ready for a GPU."""

    turn: Turn
    account: Account
    pool: str
    served_model: str | None = Field(default=None, description="The model that ``turn.model`` stands for, by its id.")
    fallbacks: tuple[Route, ...] = Field(
        default=(), exclude_if=unset, description="Who answers instead, in order, if the pool cannot begin."
    )
    message_seq: int = Field(ge=0)
    prompt: Prompt


class Decision(StrEnum):
    """Moderation's verdict on a turn."""

    ALLOWED = "allowed"
    BLOCKED_INPUT = "blocked_input"
    BLOCKED_OUTPUT = "blocked_output"


class ModerationDecided(Event):
    """``moderation.decisions.v1``: one verdict with its reasons, never the text it judged."""

    turn_id: str
    conversation_id: str
    tenant_id: str
    user_id: str
    decision: Decision
    categories: tuple[str, ...] = Field(default=(), description="Policy categories that matched, sorted.")
    rules: tuple[str, ...] = Field(default=(), description="Ids of the rules that matched, sorted.")
    policy_version: str
    trace_id: str | None = None
    decided_at_ms: int


class FinishReason(StrEnum):
    """Why an answer ended. The first four are OpenAI's; the others end a turn without a full answer."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Usage(Event):
    """Tokens of one turn, as reported by the engine where it reports them."""

    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    cached_tokens: int = Field(default=0, ge=0)


class UsageRecorded(Event):
    """``usage.events.v1``: one per turn. Deduplicate by ``turn_id``: a redelivery repeats it unchanged."""

    turn_id: str
    conversation_id: str
    tenant_id: str
    user_id: str
    key_id: str
    plan: str
    model: str
    pool: str
    usage: Usage
    finish_reason: FinishReason
    decision: Decision = Field(default=Decision.ALLOWED, description="Moderation's verdict on the turn.")
    cost_nano_usd: int = Field(
        default=0,
        ge=0,
        description="The price of the tokens in billionths of a US dollar; whole, so that sums are exact.",
    )
    region: str = Field(default="local", description="Where the answer was made.")
    origin: str | None = Field(default=None, description="``turn.origin``.")
    attempt: int = Field(ge=0, description="0 without tokens: it was refused after its admission.")
    ttft_ms: int | None = Field(default=None, ge=0, description="From submission to the first token on the log.")
    duration_ms: int = Field(ge=0, description="From submission to the terminal event.")
    submitted_at_ms: int
    recorded_at_ms: int

    @property
    def unused(self) -> bool:
        """Whether the turn was ended before any model was asked; if there is another bill of it, that one counts."""
        return self.attempt == 0 and self.usage.prompt_tokens == self.usage.completion_tokens == 0


class UsageRolledUp(Event):
    """``usage.rollups.v1``: usage per user, model and minute or hour. The last record of a key wins."""

    tenant_id: str
    user_id: str
    model: str
    window: Literal["minute", "hour"] = "minute"
    window_start_ms: int
    window_end_ms: int
    turns: int = Field(ge=0)
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    cached_tokens: int = Field(default=0, ge=0)
    cost_nano_usd: int = Field(default=0, ge=0)


class TurnCancelled(Event):
    """``chat.turns.cancelled.v1``: a hint for inference to free the GPU.

    The log's verdict is ``Cancelled`` on the tokens topic, written before this.
    """

    turn_id: str
    reason: Literal["client", "abandoned"]
