"""What changed between two lives of the same turns. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from stream_processors.topology import RATE_LIMIT
from turnstream.shadow.facts import TurnFacts

Change = Literal["decision", "refusal", "circumstances", "rules", "prompt", "answer", "finish_reason", "outcome"]
Only = Literal["flipped", "answers", "prompts"]
_ONLY: Final[Mapping[Only, Change]] = {"flipped": "decision", "answers": "answer", "prompts": "prompt"}

# Refusals that say nothing of the turn itself.
_CIRCUMSTANCES: Final = frozenset(("conversation_busy", "account_suspended", "storage_unavailable"))


class Side(BaseModel):
    """One life of a turn. None: not known. Times in milliseconds from the first fence on; hashes of 16 hex digits."""

    model_config = ConfigDict(frozen=True)

    outcome: str | None = None
    stage: str | None = None
    code: str | None = None
    decision: str | None = None
    categories: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    policy: str | None = None
    model: str | None = None
    pool: str | None = None
    prompt_hash: str | None = None
    prompt_messages: int | None = None
    prompt_dropped: int | None = None
    prompt_tokens: int | None = Field(default=None, description="As the prompt stage counted them.")
    answer_hash: str | None = None
    answer_chars: int | None = None
    billed_prompt_tokens: int | None = Field(default=None, description="As the engine counted them.")
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    finish_reason: str | None = None
    ttft_ms: int | None = None
    duration_ms: int | None = None
    cost_nano_usd: int | None = None


class Difference(BaseModel):
    """One turn: what it was, what it became in the shadow, and which of that differs.

    ``changes`` is empty for a turn that came out the same, and for one of which the log no longer has the original
    (``original`` None) or the run has nothing (``shadow`` None).
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    turn_id: str
    conversation_id: str | None
    tenant_id: str | None
    user_id: str | None
    changes: tuple[Change, ...] = ()
    original: Side | None
    shadow: Side | None

    @property
    def flip(self) -> str | None:
        """The decision then and now, when it flipped."""
        if "decision" not in self.changes or self.original is None or self.shadow is None:
            return None
        return f"{verdict(self.original)} -> {verdict(self.shadow)}"


class DiffSummary(BaseModel):
    """All turns of a run, counted."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    turns: int
    compared: int = Field(description="Turns of which both lives are known.")
    unchanged: int
    original_unknown: int
    changes: dict[str, int] = Field(description="Turns by what changed.")
    flips: dict[str, int] = Field(description="Turns by how their decision flipped.")
    original_tokens: int = Field(description="Prompt and completion tokens of the turns that both lives billed.")
    shadow_tokens: int
    original_ttft_ms_p50: int | None
    shadow_ttft_ms_p50: int | None
    original_duration_ms_p50: int | None
    shadow_duration_ms_p50: int | None


def compare(
    run_id: str, originals: Mapping[str, TurnFacts], shadows: Mapping[str, TurnFacts], *, answered: bool
) -> list[Difference]:
    """One row per turn of the run, by turn id. ``answered``: the run went through inference."""
    return [_compare(run_id, originals.get(turn_id), shadow, answered) for turn_id, shadow in sorted(shadows.items())]


def _compare(run_id: str, original: TurnFacts | None, shadow: TurnFacts, answered: bool) -> Difference:  # noqa: FBT001
    known = original if original is not None and original.outcome is not None else None
    whose = shadow if shadow.user_id is not None else (known or shadow)
    return Difference(
        run_id=run_id,
        turn_id=shadow.turn_id,
        conversation_id=whose.conversation_id,
        tenant_id=whose.tenant_id,
        user_id=whose.user_id,
        changes=() if known is None else tuple(_changes(known, shadow, answered)),
        original=None if known is None else side(known),
        shadow=side(shadow),
    )


def _changes(original: TurnFacts, shadow: TurnFacts, answered: bool) -> Iterable[Change]:  # noqa: FBT001
    through = original.let_through, shadow.let_through
    both_answered = answered and all(through)
    if _by_circumstances(original) and (original.stage, original.code) != (shadow.stage, shadow.code):
        # A run has no quotas, no turns beside it and no ladder: they let it through now, whatever the change.
        yield "circumstances"
        return
    if (None not in through and through[0] != through[1]) or (both_answered and original.stopped != shadow.stopped):
        yield "decision"
    elif through == (False, False) and (original.stage, original.code) != (shadow.stage, shadow.code):
        yield "refusal"
    if original.rules != shadow.rules and _same_text_judged(original, shadow):
        yield "rules"
    if None not in (original.prompt, shadow.prompt) and original.prompt != shadow.prompt:
        yield "prompt"
    if not both_answered:
        return
    if original.outcome != shadow.outcome:
        yield "outcome"
    if _hash_of(original) != _hash_of(shadow):
        yield "answer"
    if original.finish_reason != shadow.finish_reason:
        yield "finish_reason"


def _by_circumstances(facts: TurnFacts) -> bool:
    return facts.outcome == "refused" and (facts.stage == RATE_LIMIT.name or facts.code in _CIRCUMSTANCES)


def _same_text_judged(original: TurnFacts, shadow: TurnFacts) -> bool:
    """Whether the rules that are known are those that matched the input, in both lives."""
    return None not in (original.decision, shadow.decision) and not (original.stopped or shadow.stopped)


def _hash_of(facts: TurnFacts) -> str | None:
    return None if facts.answer is None else facts.answer.hash


def side(facts: TurnFacts) -> Side:
    """The facts as they are shown."""
    prompt, answer = facts.prompt, facts.answer
    return Side(
        outcome=facts.outcome,
        stage=facts.stage,
        code=facts.code,
        decision=facts.decision,
        categories=facts.categories,
        rules=facts.rules,
        policy=facts.policy,
        model=facts.model,
        pool=facts.pool,
        prompt_hash=prompt.hash if prompt else None,
        prompt_messages=prompt.messages if prompt else None,
        prompt_dropped=prompt.dropped if prompt else None,
        prompt_tokens=prompt.tokens if prompt else None,
        answer_hash=answer.hash if answer else None,
        answer_chars=answer.chars if answer else None,
        billed_prompt_tokens=facts.prompt_tokens,
        completion_tokens=facts.completion_tokens,
        cached_tokens=facts.cached_tokens,
        finish_reason=facts.finish_reason,
        ttft_ms=answer.ttft_ms if answer else None,
        duration_ms=answer.duration_ms if answer else None,
        cost_nano_usd=facts.cost_nano_usd,
    )


def verdict(side: Side) -> str:
    """The decision in a word: allowed, what moderation blocked, or the code of another refusal."""
    if side.outcome == "refused":
        blocked = side.decision if side.decision not in (None, "allowed") else None
        return blocked or side.code or "refused"
    return "blocked_output" if side.decision == "blocked_output" else "allowed"


def chosen(differences: Iterable[Difference], only: Only | None) -> list[Difference]:
    """Those with the change that is asked for, or with any."""
    if only is None:
        return [each for each in differences if each.changes]
    return [each for each in differences if _ONLY[only] in each.changes]


def summarise(run_id: str, differences: Sequence[Difference]) -> DiffSummary:
    """The figures of a run."""
    both = [(each.original, each.shadow) for each in differences if each.original and each.shadow]
    billed = [(one, two) for one, two in both if one.completion_tokens and two.completion_tokens]
    return DiffSummary(
        run_id=run_id,
        turns=len(differences),
        compared=len(both),
        unchanged=sum(not each.changes for each in differences if each.original and each.shadow),
        original_unknown=sum(each.original is None for each in differences),
        changes=dict(sorted(Counter(change for each in differences for change in each.changes).items())),
        flips=dict(sorted(Counter(each.flip for each in differences if each.flip).items())),
        original_tokens=sum(_tokens(one) for one, _ in billed),
        shadow_tokens=sum(_tokens(two) for _, two in billed),
        original_ttft_ms_p50=_median(one.ttft_ms for one, _ in billed),
        shadow_ttft_ms_p50=_median(two.ttft_ms for _, two in billed),
        original_duration_ms_p50=_median(one.duration_ms for one, _ in billed),
        shadow_duration_ms_p50=_median(two.duration_ms for _, two in billed),
    )


def _tokens(side: Side) -> int:
    return (side.billed_prompt_tokens or 0) + (side.completion_tokens or 0)


def _median(values: Iterable[int | None]) -> int | None:
    found = sorted(value for value in values if value is not None)
    return found[(len(found) - 1) // 2] if found else None
