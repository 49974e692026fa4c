"""An edge with an in-memory world around it: a log, a key, a conversation, and stages that play a script."""

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import pytest
from openai import AsyncOpenAI
from starlette.types import ASGIApp, Receive, Scope, Send

from consumers.sse.core import SseSettings
from consumers.sse.live_turns import LiveTurns
from consumers.sse.stage import Answers
from producers.accounts.accounts_api import AccountsApi, AccountSecrets
from producers.accounts.change_log import AccountChangeLog
from producers.accounts.core import AccountsSettings
from producers.accounts.ports import AccountPorts
from producers.accounts.signing_keys import derive_signing_keys
from producers.app import make_app
from producers.conversations.core import ConversationsSettings
from producers.http.api_keys import key_hash, make_api_key
from producers.ingest.admission import Admission
from producers.ingest.core import IngestSettings
from producers.ingest.ports import IngestPorts
from schemas import serde
from schemas.accounts import Account, Credential
from schemas.content import Content
from schemas.cursors import cursor_key
from schemas.errors import Refusal
from schemas.events import FinishReason, RateLimits, Turn, TurnSubmitted, Usage
from schemas.ids import turn_partition
from schemas.ports import Metrics, Outgoing, Owner, Producer, StoredMessage, TopicPartition
from schemas.tokens import (
    AttemptStarted,
    Cancelled,
    Cleared,
    Delta,
    Failed,
    Finished,
    Persisted,
    Refused,
    TokenEvent,
)
from schemas.topics import ACCOUNT_CHANGES, TOKENS, TURNS_SUBMITTED
from stream_processors.moderation.core import ModerationSettings
from stream_processors.moderation.toml_rules import load_policy
from tests.support.memory_accounts import MemoryAccountRows
from tests.support.memory_conversations import MemoryConversations
from tests.support.memory_log import MemoryLog, MemoryLogTail, MemoryProducer
from tests.support.memory_stores import (
    MemoryAccountDirectory,
    MemoryActiveTurns,
    MemoryConversationDirectory,
    MemoryRows,
    MemoryTurnClaims,
    MemoryUsageRows,
)
from turnstream.http_server import ServerSettings, open_listener, serve
from turnstream.log.account_changes import AccountChangeListener
from turnstream.log.turn_lookup import LogTurnLookup, TurnLookupSettings

PEPPER = b"pepper of the tests"
CURSOR_KEY = cursor_key(PEPPER)
PARTITIONS = 4
HOME = (1, 3)
KEY = make_api_key(bytes(range(30)))
OTHER_KEY = make_api_key(bytes(range(1, 31)))
ACCOUNT = Account(tenant_id="acme", user_id="ada", key_id=KEY.key_id, plan="pro")
OTHER_ACCOUNT = Account(tenant_id="acme", user_id="eve", key_id=OTHER_KEY.key_id, plan="free")
LIMITS = RateLimits(
    limit_requests=60,
    remaining_requests=59,
    reset_requests_ms=1000,
    limit_tokens=10_000,
    remaining_tokens=9_000,
    reset_tokens_ms=360_000,
)
USAGE = Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=2)


class ScriptedProducer(MemoryProducer):
    """Appends, and plays the stages' part as soon as a turn is submitted."""

    on_submitted: Callable[[TurnSubmitted], None]

    async def append(self, records: Sequence[Outgoing]) -> Sequence[int]:
        offsets = await super().append(records)
        for record in records:
            if record.topic == TURNS_SUBMITTED.name:
                self.on_submitted(serde.decode(TURNS_SUBMITTED, record.value))
        return offsets


class Stages:
    """Writes the events that the stages behind the edge would write for one turn."""

    def __init__(self, log: MemoryLog, turn: Turn, message_seq: int = 512) -> None:
        self.log = log
        self.turn = turn
        self._message_seq = message_seq
        self._seq = count()

    def put(self, *events: TokenEvent) -> None:
        for event in events:
            turn_id = self.turn.turn_id
            self.log.put(TOKENS.name, turn_id.encode(), serde.encode(event), partition=turn_partition(turn_id))

    def clear(self) -> None:
        turn = self.turn
        self.put(
            Cleared(
                turn_id=turn.turn_id,
                conversation_id=turn.conversation_id,
                tenant_id=ACCOUNT.tenant_id,
                user_id=ACCOUNT.user_id,
                model=turn.model,
                stored=turn.stored,
                message_seq=self._message_seq,
                submitted_at_ms=turn.submitted_at_ms,
                limits=LIMITS,
                api=turn.api,
                request=turn.request,
                choices=turn.generation.n,
            ),
            AttemptStarted(turn_id=turn.turn_id, attempt=1, owner="gpu"),
        )

    def say(self, *texts: str) -> None:
        for text in texts:
            self.put(
                Delta(
                    turn_id=self.turn.turn_id,
                    attempt=1,
                    owner="gpu",
                    seq=next(self._seq),
                    content=Content(text),
                    tokens=1,
                )
            )

    def finish(self, reason: FinishReason = FinishReason.STOP) -> None:
        self.put(
            Finished(
                turn_id=self.turn.turn_id,
                attempt=1,
                owner="gpu",
                seq=next(self._seq),
                finish_reason=reason,
                usage=USAGE,
            )
        )

    def fail(self, refusal: Refusal) -> None:
        self.put(Failed(turn_id=self.turn.turn_id, refusal=refusal))

    def refuse(self, refusal: Refusal, limits: RateLimits | None = LIMITS) -> None:
        self.put(Refused(turn_id=self.turn.turn_id, stage="rate_limit", refusal=refusal, limits=limits))

    def cancel(self) -> None:
        self.put(Cancelled(turn_id=self.turn.turn_id, reason="client"))

    def persist(self) -> None:
        self.put(Persisted(turn_id=self.turn.turn_id, message_seq=self._message_seq + 1))


Script = Callable[[Stages], None]


def answer_hello(stages: Stages) -> None:
    stages.clear()
    stages.say("Hel", "lo", "!")
    stages.finish()
    if stages.turn.stored:
        stages.persist()


class CountedKeys(MemoryAccountDirectory):
    """Knows the two keys of the tests, and what ``rows`` have, and how often it was asked."""

    def __init__(self, rows: MemoryAccountRows) -> None:
        super().__init__({key_hash(KEY, PEPPER): ACCOUNT, key_hash(OTHER_KEY, PEPPER): OTHER_ACCOUNT})
        self.rows = rows
        self.calls = 0

    async def accounts(self, credentials: Sequence[Credential]) -> Mapping[str, Account]:
        self.calls += 1
        return {**await super().accounts(credentials), **await self.rows.accounts(credentials)}


@dataclass
class ListedPages:
    """``MessagePages`` over one list."""

    messages: list[StoredMessage] = field(default_factory=list)

    async def page(
        self, conversation_id: str, limit: int, after: int | None, *, newest_first: bool
    ) -> Sequence[StoredMessage]:
        del conversation_id
        ordered = sorted(self.messages, key=lambda stored: stored.message_seq, reverse=newest_first)
        if after is not None:
            ordered = [m for m in ordered if (m.message_seq < after if newest_first else m.message_seq > after)]
        return ordered[:limit]


class FakeMetrics:
    def __init__(self) -> None:
        self.counts: dict[tuple[str, tuple[tuple[str, str], ...]], float] = defaultdict(float)
        self.gauges: dict[str, float] = {}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        self.counts[name, tuple(sorted(labels.items()))] += amount

    def gauge(self, name: str, value: float, **_labels: str) -> None:
        self.gauges[name] = value

    def observe(self, name: str, value: float, **_labels: str) -> None:
        assert value >= 0, name


@dataclass
class EdgeWorld:
    """A running edge and the handles of its surroundings."""

    log: MemoryLog
    answers: Answers
    turns: LiveTurns
    admission: Admission
    accounts: AccountsApi
    keys: CountedKeys
    conversations: MemoryConversationDirectory
    pages: ListedPages
    claims: MemoryTurnClaims
    stored: MemoryRows
    usage: MemoryUsageRows
    metrics: FakeMetrics
    history: MemoryConversations
    active: MemoryActiveTurns
    url: str = ""
    script: Script = answer_hello
    submitted: list[TurnSubmitted] = field(default_factory=list)
    stages: list[Stages] = field(default_factory=list)

    def client(self, key: str = KEY.text, retries: int = 0) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=retries, timeout=10)

    def on_submitted(self, event: TurnSubmitted) -> None:
        stages = Stages(self.log, event.turn)
        self.submitted.append(event)
        self.stages.append(stages)
        if event.turn.stored:
            # As auth does.
            owner = Owner(ACCOUNT.tenant_id, ACCOUNT.user_id)
            self.conversations.conversations.setdefault(event.turn.conversation_id, owner)
        self.script(stages)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that other tasks bring about; the test's own time limit bounds it."""
    while not condition():  # noqa: ASYNC110 - any task of the edge may bring it about, none tells us
        await asyncio.sleep(0.005)


def pass_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the event loop's clock run ahead: whatever waits until then goes on at once."""
    loop = asyncio.get_running_loop()
    now_s = loop.time
    monkeypatch.setattr(loop, "time", lambda: now_s() + seconds)


# One probe at the start: a later one could take the failure that a test has prepared for its own append.
SSE = SseSettings(tick_seconds=0.01, probe_interval_seconds=60, poll_wait_seconds=0.05, ready_seconds_max=60)
INGEST = IngestSettings()
# Hashing that takes no time; whether it is slow enough is not what these tests ask.
ACCOUNTS = AccountsSettings(password_memory_kib=8, password_passes=1, password_lanes=1)


@asynccontextmanager
async def running_edge(
    script: Script = answer_hello,
    sse: SseSettings = SSE,
    ingest: IngestSettings = INGEST,
    beside: "EdgeWorld | None" = None,
) -> AsyncIterator[EdgeWorld]:
    """An edge served by uvicorn on a free port, until the block ends; with the world of the edge ``beside`` it."""
    world, app = _build(script, sse, ingest, beside)
    listener = open_listener(ServerSettings(port=0))
    world.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop = asyncio.Event()

    async def drain() -> None:
        await world.answers.drain(0)

    async with asyncio.TaskGroup() as tasks:
        changes = world.log.tail([TopicPartition(ACCOUNT_CHANGES.name, one) for one in range(PARTITIONS)])
        hearing = tasks.create_task(AccountChangeListener(changes, world.accounts.open_access.hear).run())
        watching = tasks.create_task(world.accounts.open_access.run())
        following = tasks.create_task(world.answers.run())
        serving = tasks.create_task(serve(app, listener, ServerSettings(stop_seconds_max=1), stop, drain))
        try:
            await until(world.turns.ready)
            yield world
        finally:
            stop.set()
            await asyncio.wait([serving])
            for task in (following, hearing, watching):
                task.cancel()


def live_turns(
    log: MemoryLog,
    producer: Producer,
    settings: SseSettings,
    metrics: Metrics,
    tail: MemoryLogTail | None = None,
    *,
    edge_id: str = "edge-test",
) -> LiveTurns:
    return LiveTurns(
        tail or home_tail(log),
        log.reader(),
        producer,
        HOME,
        edge_id=edge_id,
        settings=settings,
        metrics=metrics,
        entropy=os.urandom,
    )


def make_answers(
    turns: LiveTurns, producer: Producer, settings: SseSettings, on_started: Callable[[str], None] = lambda _: None
) -> Answers:
    return Answers(
        turns,
        producer,
        settings,
        cursor_key=CURSOR_KEY,
        on_started=on_started,
        chance=lambda: 0.5,
        now_ms=lambda: 1_700_000_000_000,
    )


def home_tail(log: MemoryLog) -> MemoryLogTail:
    return log.tail([TopicPartition(TOKENS.name, partition) for partition in HOME])


def _build(
    script: Script, sse: SseSettings, ingest: IngestSettings, beside: EdgeWorld | None
) -> tuple[EdgeWorld, ASGIApp]:
    log = MemoryLog(PARTITIONS) if beside is None else beside.log
    stored, claims = _shared_stores(beside)
    keys = CountedKeys(MemoryAccountRows() if beside is None else beside.keys.rows)
    metrics, pages, conversations = FakeMetrics(), ListedPages(), _conversations(beside)
    usage = MemoryUsageRows()
    producer = ScriptedProducer(log)
    turns = live_turns(log, producer, sse, metrics, edge_id="edge-test" if beside is None else "edge-beside")
    monotonic_s = asyncio.get_running_loop().time
    admission = Admission(ingest, metrics, monotonic_s)
    answers = make_answers(turns, producer, sse, admission.started)

    accounts = _accounts_api(keys, producer, ingest, log.tick_ms)
    ports = IngestPorts(
        producer=producer,
        readers=turns,
        states=turns,
        lookup=LogTurnLookup(log.reader(), TurnLookupSettings()),
        answerer=answers,
        canceller=answers,
        claims=claims,
        stored=stored,
        conversations=conversations,
        pages=pages,
        policy=load_policy(ModerationSettings()),
        usage=usage,
        metrics=metrics,
        now_ms=log.tick_ms,
        monotonic_s=monotonic_s,
        entropy=os.urandom,
    )
    history, active = MemoryConversations(conversations), MemoryActiveTurns()
    app = make_app(
        ports,
        ingest,
        accounts=accounts,
        stores=history.ports(active),
        conversation_settings=ConversationsSettings(),
        pepper=PEPPER,
        tokens_partitions=PARTITIONS,
        admission=admission,
        ready=turns.ready,
        metrics_page=_metrics_page,
    )
    doubles = (conversations, pages, claims, stored, usage, metrics, history, active)
    world = EdgeWorld(log, answers, turns, admission, accounts, keys, *doubles, script=script)
    producer.on_submitted = world.on_submitted
    return world, app


def _conversations(beside: EdgeWorld | None) -> MemoryConversationDirectory:
    return MemoryConversationDirectory() if beside is None else beside.conversations


def _shared_stores(beside: EdgeWorld | None) -> tuple[MemoryRows, MemoryTurnClaims]:
    return (MemoryRows(), MemoryTurnClaims()) if beside is None else (beside.stored, beside.claims)


def _accounts_api(
    keys: CountedKeys, producer: Producer, ingest: IngestSettings, now_ms: Callable[[], int]
) -> AccountsApi:
    ports = AccountPorts(
        directory=keys,
        users=keys.rows.users,
        sessions=keys.rows.sessions,
        keys=keys.rows.keys,
        changes=AccountChangeLog(producer, os.urandom),
        now_ms=now_ms,
        monotonic_s=asyncio.get_running_loop().time,
        entropy=os.urandom,
    )
    secrets = AccountSecrets(pepper=PEPPER, signing_keys=derive_signing_keys(PEPPER))
    return AccountsApi(ports, ACCOUNTS, ingest, secrets, plans=("free", "enterprise"))


async def _metrics_page(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"turnstream_up 1\n"})
