"""What the log says of turns, in figures and hashes: enough to compare two lives of a turn, and no content. Pure."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from consumers.inference.answer import Answer, Choice, fold
from schemas import serde
from schemas.errors import Malformed
from schemas.events import Decision, InferenceRequested, ModerationDecided, Prompt, TurnPrompted, UsageRecorded
from schemas.headers import TURN, header
from schemas.messages import Message
from schemas.ports import Record
from schemas.tokens import AttemptStarted, Cancelled, Failed, Finished, Refused, TokenEvent
from schemas.topics import INFERENCE_REQUESTS, MODERATION_DECISIONS, TOKENS, TURNS_PROMPTED, USAGE_EVENTS

HASH_CHARS: Final = 16
# Where the facts are; the order does not matter.
TOPICS: Final = (TOKENS, TURNS_PROMPTED, *INFERENCE_REQUESTS.values(), MODERATION_DECISIONS, USAGE_EVENTS)
_BY_NAME: Final = {topic.name: topic for topic in TOPICS}


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """A prompt without its words."""

    hash: str
    tokens: int
    messages: int
    dropped: int


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """An answer without its words. ``choices``: how many there are; times in milliseconds from the first fence on."""

    hash: str
    chars: int
    tokens: int
    choices: int
    ttft_ms: int | None
    duration_ms: int | None


@dataclass(frozen=True, slots=True)
class TurnFacts:
    """One life of a turn. ``outcome``: refused, finished, failed, cancelled, or cleared (and no end is known).

    ``decision`` is None where moderation has not spoken. ``code`` is that of the refusal or failure.
    """

    turn_id: str
    conversation_id: str | None = None
    tenant_id: str | None = None
    user_id: str | None = None
    model: str | None = None
    pool: str | None = None
    outcome: str | None = None
    stage: str | None = None
    code: str | None = None
    decision: str | None = None
    categories: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    policy: str | None = None
    prompt: PromptFacts | None = None
    answer: AnswerFacts | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cost_nano_usd: int | None = None

    @property
    def let_through(self) -> bool | None:
        """Whether no stage before inference refused the turn; None when that is not known."""
        return None if self.outcome is None else self.outcome != "refused"

    @property
    def stopped(self) -> bool:
        """Whether moderation cut the answer off."""
        return self.decision == Decision.BLOCKED_OUTPUT.value


@dataclass(slots=True)
class _Life:
    facts: TurnFacts
    answer: Answer = field(default_factory=Answer)
    fenced_ms: int | None = None
    done: bool = False


class FactsOf:
    """Give it the records of whole turns, those of a partition in order; then ask for the facts.

    ``wanted``: the only turns meant, None for all. ``unreadable`` counts records that say nothing.
    """

    def __init__(self, wanted: frozenset[str] | None = None) -> None:
        self.unreadable = 0
        self._wanted = None if wanted is None else {turn_id.encode() for turn_id in wanted}
        self._lives: dict[str, _Life] = {}

    def take(self, record: Record) -> None:
        """The next record of its partition, of any of ``TOPICS``."""
        if self._wanted is not None and dict(record.headers).get(TURN) not in self._wanted:
            return
        turn_id = header(record.headers, TURN)
        topic = _BY_NAME.get(record.topic)
        if turn_id is None or topic is None:
            return
        try:
            event = serde.decode(topic, record.value)
        except Malformed:
            self.unreadable += 1
            return
        life = self._lives.setdefault(turn_id, _Life(TurnFacts(turn_id)))
        if topic is TOKENS:
            _take_token(life, event, record.timestamp_ms)
        else:
            _LEARN[type(event)](life, event)

    def facts(self) -> Mapping[str, TurnFacts]:
        """By turn id, what is known now."""
        return {turn_id: _told(life) for turn_id, life in self._lives.items()}


def _take_token(life: _Life, event: TokenEvent, at_ms: int) -> None:
    if life.done:
        return
    after = fold(life.answer, event, at_ms)
    if after is life.answer:
        return
    life.answer = after
    if isinstance(event, AttemptStarted) and life.fenced_ms is None:
        life.fenced_ms = at_ms
    if after.ended:
        # The words are not kept once their hash is known: there may be very many turns.
        life.facts, life.done = _told(life), True
        life.answer = Answer()


def _told(life: _Life) -> TurnFacts:
    if life.done:
        return life.facts
    answer = life.answer
    terminal, cleared = answer.state.terminal, answer.state.cleared
    facts = life.facts
    if cleared is not None:
        facts = replace(
            facts,
            conversation_id=cleared.conversation_id,
            tenant_id=cleared.tenant_id,
            user_id=cleared.user_id,
            model=facts.model or cleared.model,
            outcome="cleared",
        )
    if answer.routes:
        facts = replace(facts, model=answer.routes[-1].model, pool=answer.routes[-1].pool)
    if answer.begun or isinstance(terminal, Finished):
        facts = replace(facts, answer=_answer_facts(answer, life.fenced_ms))
    match terminal:
        case Refused(stage=stage, refusal=refusal):
            facts = replace(facts, outcome="refused", stage=stage, code=refusal.error.code)
        case Failed(refusal=refusal):
            facts = replace(facts, outcome="failed", code=refusal.error.code)
        case Cancelled():
            facts = replace(facts, outcome="cancelled")
        case Finished(finish_reason=reason):
            facts = replace(facts, outcome="finished", finish_reason=reason.value)
    return facts


def _answer_facts(answer: Answer, fenced_ms: int | None) -> AnswerFacts:
    return AnswerFacts(
        hash=answer_hash(answer.choices),
        chars=answer.chars,
        tokens=answer.tokens,
        choices=len(answer.choices),
        ttft_ms=_since(fenced_ms, answer.first_token_at_ms),
        duration_ms=_since(fenced_ms, answer.ended_at_ms),
    )


def _since(start_ms: int | None, end_ms: int | None) -> int | None:
    return None if start_ms is None or end_ms is None else max(0, end_ms - start_ms)


def answer_hash(choices: Sequence[Choice]) -> str:
    """The same for the same words and calls, however they were cut into pieces; ids of calls are chance."""
    return _hash([[choice.text, [[call.name, call.arguments] for call in choice.calls]] for choice in choices])


def prompt_facts(prompt: Prompt) -> PromptFacts:
    """What is told of a prompt."""
    said = [_message(message) for message in prompt.messages]
    return PromptFacts(_hash(said), prompt.prompt_tokens, len(said), prompt.dropped_messages)


def _message(message: Message) -> list[Any]:
    calls = [[call.id, call.name, call.arguments.text] for call in message.tool_calls]
    return [message.role.value, message.content.text, message.name, calls, message.tool_call_id]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=True).encode()).hexdigest()[:HASH_CHARS]


def _learn_prompt(life: _Life, event: TurnPrompted | InferenceRequested) -> None:
    life.facts = replace(
        life.facts,
        conversation_id=event.turn.conversation_id,
        tenant_id=event.account.tenant_id,
        user_id=event.account.user_id,
        prompt=prompt_facts(event.prompt),
        model=life.facts.model or event.served_model or event.turn.model,
        pool=life.facts.pool or event.pool,
    )


def _learn_decision(life: _Life, event: ModerationDecided) -> None:
    if life.facts.decision == Decision.BLOCKED_OUTPUT.value:
        # The verdict on the answer comes after that on the input, but perhaps from another partition.
        return
    life.facts = replace(
        life.facts,
        conversation_id=event.conversation_id,
        tenant_id=event.tenant_id,
        user_id=event.user_id,
        decision=event.decision.value,
        categories=event.categories,
        rules=event.rules,
        policy=event.policy_version,
    )


def _learn_usage(life: _Life, event: UsageRecorded) -> None:
    if event.unused and life.facts.prompt_tokens is not None:
        return
    life.facts = replace(
        life.facts,
        conversation_id=event.conversation_id,
        tenant_id=event.tenant_id,
        user_id=event.user_id,
        prompt_tokens=event.usage.prompt_tokens,
        completion_tokens=event.usage.completion_tokens,
        cached_tokens=event.usage.cached_tokens,
        cost_nano_usd=event.cost_nano_usd,
    )


_LEARN: Final[Mapping[type, Callable[[_Life, Any], None]]] = {
    TurnPrompted: _learn_prompt,
    InferenceRequested: _learn_prompt,
    ModerationDecided: _learn_decision,
    UsageRecorded: _learn_usage,
}
