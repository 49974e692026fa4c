"""Fit a prompt into a model's context. Pure.

A prompt is, in this order: fixed sections (the operator's policy, the turn's own instructions, then the client's
system messages in force), as much of the newest history as fits, and the turn's own input, whole and last. The
history is that of the turn's branch (``stream_processors.prompt.branching``).
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field

from schemas.content import Content
from schemas.errors import Refusal, invalid_request
from schemas.events import Prompt, Turn, TurnAdmitted, TurnPrompted
from schemas.messages import Message, Role
from schemas.models import ModelCard
from schemas.plans import Plan
from schemas.ports import StoredMessage
from stream_processors.prompt.branching import Branch
from stream_processors.token_counts import ANSWER_OVERHEAD_TOKENS, TokenCounter, message_tokens

SYSTEM_ROLES: Final = frozenset({Role.SYSTEM, Role.DEVELOPER})
ANSWERING_ROLES: Final = frozenset({Role.ASSISTANT, Role.TOOL})


class PromptSettings(BaseModel):
    """Settings of the prompt stage."""

    model_config = ConfigDict(frozen=True)

    system_messages: tuple[str, ...] = Field(default=(), description="The operator's policy, before everything else.")
    tokenizer_file: Path | None = Field(default=None, description="A tokenizer.json; None estimates tokens.")
    history_messages_max: int = Field(default=64, ge=1, description="Messages of history to consider.")
    history_windows_max: int = Field(
        default=8, ge=1, description="Reads of older messages for a branch that the newest ones do not show."
    )
    completion_tokens_min: int = Field(default=16, ge=1, description="Refuse an input that leaves less for an answer.")
    context_ttl_s: int = Field(default=3_600, ge=1, description="Life of a rebuilt context; the sink renews it.")
    context_bytes_max: int = Field(default=524_288, ge=1, description="A larger context is not kept hot.")
    rebuild_ttl_s: int = Field(default=30, ge=1, description="Life of a context that nobody finished to rebuild.")
    redis_seconds_max: float = Field(default=0.5, gt=0, description="Wait for one round trip.")
    redis_retry_s: float = Field(default=2.0, gt=0, description="A Redis that did not answer is left alone so long.")
    statements_in_flight_max: int = Field(default=64, ge=1, description="CQL statements at once, per batch.")


class HotContexts(Protocol):
    """Recent messages of conversations, close at hand. A cache: whatever it lacks is in the history.

    Who rebuilds a context says so before reading the history. From then on the sink, which extends contexts that
    exist, adds what it stores; so a finished rebuild lacks nothing, however long it took.
    """

    async def read(self, conversation_ids: Sequence[str]) -> Mapping[str, Sequence[StoredMessage]]:
        """The messages, oldest first, of the contexts that are whole; others are absent. Raises Retryable."""
        ...

    async def begin_rebuild(self, conversation_ids: Sequence[str]) -> str:
        """Announce a rebuild of these contexts; the answer is its token. Raises Retryable."""
        ...

    async def finish_rebuild(self, token: str, contexts: Mapping[str, Sequence[StoredMessage]]) -> None:
        """Make the contexts whole, each unless it is gone or a later rebuild was announced. Raises Retryable."""
        ...


class Parts(NamedTuple):
    """What a prompt is made of. ``history`` is oldest first and gives way; the rest stays."""

    fixed: tuple[Message, ...]
    history: Sequence[StoredMessage]
    own: tuple[Message, ...]


class Room(NamedTuple):
    """A model's context in tokens, and how much of it the answer wants and needs at least."""

    context_tokens: int
    completion_tokens: int
    completion_tokens_min: int


class Selection(NamedTuple):
    """The part of the history that fits."""

    messages: tuple[Message, ...]
    tokens: int


def policy_messages(settings: PromptSettings) -> tuple[Message, ...]:
    """What the operator says first."""
    return tuple(Message(role=Role.SYSTEM, content=Content(text)) for text in settings.system_messages)


def instruction_messages(turn: Turn) -> tuple[Message, ...]:
    """System text that counts for this turn alone."""
    text = turn.instructions
    return () if text is None else (Message(role=Role.SYSTEM, content=text),)


def build(
    event: TurnAdmitted,
    card: ModelCard,
    branch: Branch,
    *,
    policy: tuple[Message, ...],
    completion_tokens_min: int,
    count: TokenCounter,
) -> TurnPrompted | Refusal:
    """The turn with its prompt, and with the parent that its branch gave it if it is stored."""
    earlier = [stored for stored in branch.messages if was_exchanged(stored)]
    parts = Parts(
        fixed=(*policy, *instruction_messages(event.turn), *client_messages(earlier, event.input)),
        history=[stored for stored in earlier if stored.message.role not in SYSTEM_ROLES],
        own=event.input,
    )
    prompt = fit(parts, room_for(event.turn.max_tokens, card, completion_tokens_min), count)
    if isinstance(prompt, Refusal):
        return prompt
    return TurnPrompted(
        turn=event.turn,
        account=event.account,
        pool=event.pool,
        served_model=event.served_model,
        fallbacks=event.fallbacks,
        message_seq=event.message_seq,
        limits=event.limits,
        prompt=prompt,
        parent_seq=branch.parent_seq if event.turn.stored else None,
    )


def was_exchanged(stored: StoredMessage) -> bool:
    """Whether both sides know the message, and nobody has deleted it.

    An answer that was cut short was seen; a question that is not complete never got an answer, and whoever still
    wants one has asked again.
    """
    return not stored.deleted and (stored.complete or stored.message.role is Role.ASSISTANT)


def within_plan(card: ModelCard, plan: Plan) -> ModelCard:
    """The model as a plan lets it be used: with no more context, and no longer answers, than the plan has."""
    context_tokens = min(card.context_tokens, plan.context_tokens_max or card.context_tokens)
    output_tokens = min(card.output_tokens_max, plan.output_tokens_max or card.output_tokens_max, context_tokens - 1)
    return card.model_copy(update={"context_tokens": context_tokens, "output_tokens_max": output_tokens})


def room_for(max_tokens: int | None, card: ModelCard, completion_tokens_min: int) -> Room:
    """The room in the context of ``card`` for a client that allows ``max_tokens`` (None: the model's maximum)."""
    wanted = min(max_tokens or card.output_tokens_max, card.output_tokens_max)
    return Room(card.context_tokens, wanted, min(wanted, completion_tokens_min))


def client_messages(earlier: Sequence[StoredMessage], own: Sequence[Message]) -> tuple[Message, ...]:
    """The client's system messages in force: those of the newest turn that sent any.

    When the turn's own input brings some, they replace the earlier ones and stay where the client put them.
    """
    newest: tuple[Message, ...] = ()
    if not any(message.role in SYSTEM_ROLES for message in own):
        for _, turn in groupby(earlier, key=lambda stored: stored.turn_id):
            newest = tuple(stored.message for stored in turn if stored.message.role in SYSTEM_ROLES) or newest
    return newest


def fit(parts: Parts, room: Room, count: TokenCounter) -> Prompt | Refusal:
    """The prompt that leaves the wanted room for the answer, as far as that is possible.

    What is fixed and the input are never cut. History gives way first, then the answer's room, down to its minimum;
    an input that leaves less than that is refused.
    """
    fixed, history, own = parts
    fixed_tokens = ANSWER_OVERHEAD_TOKENS + sum([message_tokens(message, count) for message in (*fixed, *own)])
    left = room.context_tokens - fixed_tokens
    if left < room.completion_tokens_min:
        return context_length_exceeded(room.context_tokens, fixed_tokens)
    selected = newest_turns(history, left - room.completion_tokens, count)
    return Prompt(
        messages=(*fixed, *selected.messages, *own),
        input_count=len(own),
        prompt_tokens=fixed_tokens + selected.tokens,
        max_tokens=min(room.completion_tokens, left),
        dropped_messages=len(history) - len(selected.messages),
    )


def newest_turns(history: Sequence[StoredMessage], budget_tokens: int, count: TokenCounter) -> Selection:
    """The longest run of whole turns at the end of ``history`` (oldest first) within ``budget_tokens``.

    A first one that begins with an answer has lost its question to the limit of the history: it is left out.
    """
    rounds = exchanges(history)
    if rounds and rounds[0][0].role in ANSWERING_ROLES:
        del rounds[0]
    chosen: list[list[Message]] = []
    used = 0
    for messages in reversed(rounds):
        tokens = sum(message_tokens(message, count) for message in messages)
        if used + tokens > budget_tokens:
            break
        chosen.append(messages)
        used += tokens
    return Selection(tuple(message for messages in reversed(chosen) for message in messages), used)


def exchanges(history: Sequence[StoredMessage]) -> list[list[Message]]:
    """``history`` by turns; an answer that was given again, in a turn of its own, stays with its question."""
    rounds: list[list[Message]] = []
    for _, turn in groupby(history, key=lambda stored: stored.turn_id):
        messages = [stored.message for stored in turn]
        if rounds and messages[0].role in ANSWERING_ROLES:
            rounds[-1].extend(messages)
        else:
            rounds.append(messages)
    return rounds


def context_length_exceeded(context_tokens: int, prompt_tokens: int) -> Refusal:
    """400 in OpenAI's words: the input alone does not leave room for an answer."""
    return invalid_request(
        f"This model's maximum context length is {context_tokens} tokens. However, your messages resulted in "
        f"{prompt_tokens} tokens. Please reduce the length of the messages.",
        param="messages",
        code="context_length_exceeded",
    )
