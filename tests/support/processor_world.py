"""Every processor of the topology over in-memory stores, with switches to take the stores down."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.event import Event
from schemas.events import FinishReason, Usage, UsageRecorded
from schemas.models import DEFAULT_CATALOGUE
from schemas.plans import DEFAULT_PLANS
from schemas.ports import BatchProcess
from stream_processors.auth.caching import CachedAccounts
from stream_processors.auth.core import AuthSettings
from stream_processors.auth.running_turns import RunningTurns
from stream_processors.auth.stage import Authorize
from stream_processors.auth.standings import Standings
from stream_processors.moderation.core import ModerationSettings
from stream_processors.moderation.stage import Moderate
from stream_processors.moderation.toml_rules import load_policy
from stream_processors.prompt.core import PromptSettings
from stream_processors.prompt.stage import BuildPrompts
from stream_processors.rate_limit.core import RateLimitSettings
from stream_processors.rate_limit.stage import Admit, Settle
from stream_processors.token_counts import estimate_tokens
from stream_processors.topology import AUTH, MODERATION, PROMPT, RATE_LIMIT, RATE_LIMIT_SETTLE, ROWS, StageRow
from tests.support.memory_prompting import MemoryHistory, MemoryHotContexts
from tests.support.memory_quota import MemoryQuota
from tests.support.memory_stores import (
    MemoryAccountDirectory,
    MemoryActiveTurns,
    MemoryConversationDirectory,
    MemoryTurnLookup,
)
from tests.support.turn_events import (
    ACCOUNT,
    KEY_HASH,
    NOW_MS,
    CountedMetrics,
    admitted,
    authorized,
    conversation_id,
    prompted,
    submitted,
    turn,
    turn_id,
    user,
)

CANARY = "xyzzy"
BLOCKED = "turnstream-blocked-phrase"


@dataclass
class ProcessorWorld:
    """The stores that the processors share, and the processors over them."""

    auth: AuthSettings = field(default_factory=lambda: AuthSettings(key_cache_s=0))
    keys: MemoryAccountDirectory = field(default_factory=lambda: MemoryAccountDirectory({KEY_HASH: ACCOUNT}))
    conversations: MemoryConversationDirectory = field(default_factory=MemoryConversationDirectory)
    quota: MemoryQuota = field(default_factory=MemoryQuota)
    active: MemoryActiveTurns = field(default_factory=MemoryActiveTurns)
    lookup: MemoryTurnLookup = field(default_factory=MemoryTurnLookup)
    standings: Standings = field(default_factory=lambda: Standings(100))
    now_ms: int = NOW_MS
    contexts: MemoryHotContexts = field(default_factory=MemoryHotContexts)
    history: MemoryHistory = field(default_factory=MemoryHistory)
    metrics: CountedMetrics = field(default_factory=CountedMetrics)

    def processes(self) -> Mapping[StageRow, BatchProcess]:
        """A fresh process per row, as after a restart; the stores stay."""
        return {
            AUTH: Authorize(
                self.auth,
                DEFAULT_CATALOGUE,
                DEFAULT_PLANS,
                accounts=CachedAccounts(self.keys, self.auth, self.clock),
                conversations=self.conversations,
                running=RunningTurns(self.active, self.lookup, self.auth, lambda: self.now_ms),
                standings=self.standings,
                metrics=self.metrics,
            ),
            RATE_LIMIT: Admit(RateLimitSettings(), DEFAULT_PLANS, self.quota, self.metrics, lambda: self.now_ms),
            RATE_LIMIT_SETTLE: Settle(RateLimitSettings(), self.quota, self.metrics, lambda: self.now_ms),
            PROMPT: BuildPrompts(
                PromptSettings(),
                DEFAULT_CATALOGUE,
                DEFAULT_PLANS,
                contexts=self.contexts,
                history=self.history,
                count=estimate_tokens,
                metrics=self.metrics,
            ),
            MODERATION: Moderate(load_policy(ModerationSettings()), self.metrics, lambda: NOW_MS),
        }

    def clock(self) -> float:
        return self.now_ms / 1000

    def set_down(self, *, down: bool) -> None:
        for store in (self.keys, self.conversations, self.active, self.quota, self.contexts, self.history):
            store.down = down


@dataclass(frozen=True)
class Sample:
    """How to make an event of a row's source: one that passes, and one that is refused (None: no refusals)."""

    row: StageRow
    passing: Callable[[int], Event]
    refused: Callable[[int], Event] | None


def _stored(number: int) -> Any:
    return turn(number, stored=True, starts_conversation=False)


def used(number: int, recorded_at_ms: int = NOW_MS) -> UsageRecorded:
    return UsageRecorded(
        turn_id=turn_id(number),
        conversation_id=conversation_id(number),
        **ACCOUNT.model_dump(),
        model="turnstream-fast",
        pool="fast",
        usage=Usage(prompt_tokens=1, completion_tokens=1),
        finish_reason=FinishReason.STOP,
        attempt=1,
        duration_ms=1,
        submitted_at_ms=NOW_MS,
        recorded_at_ms=recorded_at_ms,
    )


SAMPLES: Sequence[Sample] = (
    Sample(
        AUTH,
        lambda number: submitted(turn(number, stored=True), user(CANARY)),
        lambda number: submitted(turn(number), user(CANARY), key_hash="b" * 64),
    ),
    Sample(
        RATE_LIMIT,
        lambda number: authorized(turn(number), user(CANARY)),
        lambda number: authorized(turn(number), user(CANARY * 4_000_000)),
    ),
    Sample(RATE_LIMIT_SETTLE, used, None),
    Sample(
        PROMPT,
        lambda number: admitted(_stored(number), user(CANARY)),
        lambda number: admitted(_stored(number), user(CANARY * 100_000)),
    ),
    Sample(
        MODERATION,
        lambda number: prompted(turn(number, stored=True), user(CANARY)),
        lambda number: prompted(turn(number), user(f"{CANARY} {BLOCKED}")),
    ),
)
assert tuple(sample.row for sample in SAMPLES) == ROWS, "a processor without a sample is a processor without tests"
