"""Turns recorded on a log in memory by the real stages, and shadow runs over them."""

import copy
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from consumers.inference.cancel_listener import CancelListener
from consumers.inference.core import InferenceSettings
from consumers.inference.stage import InferTurn
from consumers.records import outgoing, receive, receive_all
from consumers.retry import RetryPolicy
from schemas import serde
from schemas.bills import Billing
from schemas.errors import Malformed
from schemas.events import InferenceRequested, TurnSubmitted
from schemas.models import DEFAULT_CATALOGUE
from schemas.plans import DEFAULT_PLANS
from schemas.ports import (
    BatchProcess,
    Generated,
    KeyedProcess,
    Owner,
    Pile,
    PostingProducer,
    Record,
    TopicPartition,
)
from schemas.shadow import PARTITIONS, shadow_topic
from schemas.topics import INFERENCE_REQUESTS, TOKENS, TURNS_ADMITTED, TURNS_SUBMITTED, Topic
from stream_processors.auth.caching import CachedAccounts
from stream_processors.auth.running_turns import RunningTurns
from stream_processors.auth.stage import Authorize
from stream_processors.auth.standings import Standings
from stream_processors.fusion import fuse
from stream_processors.moderation.core import ModerationSettings
from stream_processors.moderation.ruleset import DenyRule
from stream_processors.moderation.stage import Moderate
from stream_processors.moderation.toml_rules import load_policy
from stream_processors.prompt.core import PromptSettings
from stream_processors.prompt.stage import BuildPrompts
from stream_processors.rate_limit.core import RateLimitSettings
from stream_processors.rate_limit.stage import Admit
from stream_processors.token_counts import estimate_tokens
from stream_processors.topology import AUTH, MODERATION, PROMPT, RATE_LIMIT, StageRow
from tests.support.memory_log import MemoryLog
from tests.support.processor_world import ProcessorWorld
from tests.support.turn_events import ACCOUNT, KEY_HASH
from turnstream.shadow.changes import Reroute
from turnstream.shadow.facts import TOPICS
from turnstream.shadow.isolated_log import IsolatedProducer, IsolatedReader
from turnstream.shadow.pipeline import ProcessFor, ShadowPorts, ShadowTurns, rows_between
from turnstream.shadow.read_only import (
    HistoryBefore,
    NoHints,
    NoHotContexts,
    NoMetrics,
    NoRunningTurns,
    OpenQuota,
    ReadOnlyConversations,
)

RUN = "shadow-1"
LIVE_PARTITIONS = 8
_QUICK = InferenceSettings(backoff_ms_min=1, backoff_ms_max=2, beat_ms_max=0, outage_ms_max=50, fallback_ms_max=10)


class EchoBackend:
    """Answers with the model's name and the last words of the prompt, one word at a time."""

    async def generate(
        self, request: InferenceRequested, prefix: str, _pile: Pile | None = None
    ) -> AsyncGenerator[Generated, None]:
        said = f"{request.served_model}: {request.prompt.messages[-1].content.text}".split(" ")
        words = [word if index == 0 else f" {word}" for index, word in enumerate(said)]
        done = 0
        while "".join(words[:done]) != prefix:
            done += 1
        for word in words[done:]:
            yield Generated(text=word, tokens=1)
        yield Generated(text="", tokens=0, finish_reason="stop")

    async def ready(self) -> bool:
        return True

    async def close(self) -> None: ...


@dataclass
class ShadowWorld:
    """The live stages' stores and log, and what a shadow run may read of them."""

    stores: ProcessorWorld = field(default_factory=ProcessorWorld)
    log: MemoryLog = field(
        default_factory=lambda: MemoryLog(
            LIVE_PARTITIONS, {shadow_topic(RUN, topic.name): PARTITIONS for topic in TOPICS}
        )
    )
    moderation: ModerationSettings = field(default_factory=ModerationSettings)
    plan: str = "enterprise"

    def __post_init__(self) -> None:
        self.log.now_ms = self.stores.now_ms
        self.stores.keys.keys[KEY_HASH] = ACCOUNT.model_copy(update={"plan": self.plan})

    async def record(self, events: Sequence[TurnSubmitted], *, answered: bool = True) -> None:
        """Let the live stages take these turns to their end."""
        producer, (first, *_) = self.log.producer(), (AUTH,)
        records = [
            self.log.put(
                TURNS_SUBMITTED.name,
                event.turn.conversation_id.encode(),
                serde.encode(event),
                serde.event_headers(TURNS_SUBMITTED, event.turn.turn_id),
            )
            for event in events
        ]
        batch = [one for one in receive_all(TURNS_SUBMITTED, records) if not isinstance(one, Malformed)]
        live = {row: process for row, process in self.stores.processes().items() if row in _WAY}
        for received, outcome in zip(batch, await fuse(live)[first](batch), strict=True):
            assert not isinstance(outcome, Malformed)
            await producer.append([outgoing(emit, received) for emit in outcome])
        infer = self._infer(producer, self.log.reader())
        for topic in INFERENCE_REQUESTS.values() if answered else ():
            for record in self.log.records(topic.name):
                await infer(receive(topic, record))

    def shadow(
        self,
        from_stage: str = "auth",
        until_stage: str = "inference",
        *,
        deny: Sequence[str] = (),
        system: Sequence[str] = (),
        route: Reroute | None = None,
        begun: Mapping[str, int] | None = None,
    ) -> ShadowTurns:
        """A run with these changes, as the composition root would make it."""
        own, reader = IsolatedProducer(self.log.producer(), RUN), IsolatedReader(self.log.reader(), RUN)
        rules = (DenyRule(id="shadow-rule", category="shadow", terms=tuple(deny)),) if deny else ()
        moderation = self.moderation.model_copy(update={"deny": rules})
        processes = self._read_only(moderation, tuple(system))
        infer = self._infer(own, reader)
        ports = ShadowPorts(
            rows=[(row, processes[row]) for row in rows_between(from_stage, until_stage)],
            infer=dict.fromkeys(INFERENCE_REQUESTS, infer) if until_stage == "inference" else {},
            route=route or Reroute(None, None),
            producer=own,
            reader=reader,
            now_ms=lambda: self.log.now_ms,
            in_flight_max=8,
            retry=RetryPolicy(attempts_max=2, first_delay_s=0.001),
        )
        return ShadowTurns(ports, dict(begun or {}))

    def live_records(self) -> dict[str, int]:
        """How many records each live topic has."""
        return {topic.name: len(self.log.records(topic.name)) for topic in (*TOPICS, *_WRITTEN)}

    def source(self, topic: Topic) -> list[Record]:
        """The records of a live topic."""
        return self.log.records(topic.name)

    def effects(self) -> Any:
        """Everything that a live stage could have changed, to compare with what it is later."""
        stores = self.stores
        seen = (stores.quota, stores.active.rows, stores.conversations.conversations, stores.contexts)
        return copy.deepcopy((*(vars(one) if hasattr(one, "__dict__") else one for one in seen), stores.history.stored))

    def owner(self) -> Owner:
        """Whose the turns are."""
        return Owner(ACCOUNT.tenant_id, ACCOUNT.user_id)

    def admitted_seq(self, turn_id: str) -> int:
        """The ``message_seq`` that the live auth stage gave a turn."""
        (found,) = [
            event
            for record in self.log.records(TURNS_ADMITTED.name)
            if (event := serde.decode(TURNS_ADMITTED, record.value)).turn.turn_id == turn_id
        ]
        return int(found.message_seq)

    def partitions(self) -> list[TopicPartition]:
        """Every partition of the live topics that tell of turns."""
        return [TopicPartition(topic.name, number) for topic in TOPICS for number in range(LIVE_PARTITIONS)]

    def _infer(self, producer: PostingProducer, reader: Any) -> KeyedProcess:
        return InferTurn(
            producer=producer,
            reader=reader,
            backend=EchoBackend(),
            policy=load_policy(self.moderation),
            metrics=NoMetrics(),
            cancels=CancelListener(NoHints()),
            now_ms=self.log.tick_ms,
            owner_id="owner",
            settings=_QUICK,
            billing=Billing.of(DEFAULT_CATALOGUE, "local"),
        )

    def _read_only(self, moderation: ModerationSettings, system: tuple[str, ...]) -> Mapping[StageRow, ProcessFor]:
        stores, metrics = self.stores, NoMetrics()
        authorize = Authorize(
            stores.auth,
            DEFAULT_CATALOGUE,
            DEFAULT_PLANS,
            accounts=CachedAccounts(stores.keys, stores.auth, stores.clock),
            conversations=ReadOnlyConversations(stores.conversations),
            running=RunningTurns(NoRunningTurns(), stores.lookup, stores.auth, lambda: stores.now_ms),
            standings=Standings(1),
            metrics=metrics,
        )
        admit = Admit(RateLimitSettings(), DEFAULT_PLANS, OpenQuota(DEFAULT_PLANS), metrics, lambda: stores.now_ms)
        moderate = Moderate(load_policy(moderation), metrics, lambda: stores.now_ms)

        def prompting(event: Any) -> BatchProcess:
            return BuildPrompts(
                PromptSettings(system_messages=system),
                DEFAULT_CATALOGUE,
                DEFAULT_PLANS,
                contexts=NoHotContexts(),
                history=HistoryBefore(stores.history, event.message_seq),
                count=estimate_tokens,
                metrics=metrics,
            )

        return {
            AUTH: lambda _: authorize,
            RATE_LIMIT: lambda _: admit,
            PROMPT: prompting,
            MODERATION: lambda _: moderate,
        }


_WAY = (AUTH, RATE_LIMIT, PROMPT, MODERATION)
_WRITTEN = tuple(topic for row in _WAY for topic in (row.source, *row.sinks) if topic is not TOKENS)
