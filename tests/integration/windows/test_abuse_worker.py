"""Abuse signals on a real Kafka: what leads to them, and that no death of a worker loses one that is due."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from schemas import headers
from schemas.abuse import AbuseEvidence, AbuseSignalled
from schemas.event import Event
from schemas.events import Decision, FinishReason, ModerationDecided, Usage, UsageRecorded
from schemas.serde import decode, encode
from schemas.topics import ABUSE_EVIDENCE, ABUSE_SIGNALS, MODERATION_DECISIONS, USAGE_EVENTS, plan_topics
from tests.support.full_stack import eventually
from tests.support.real_servers import real_servers
from turnstream.log.kafka_topics import create_topics
from turnstream.log.settings import KafkaSettings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(150)]
NOW_MS = 1_795_000_000_000
SEEN_SECONDS_MAX = 60
PARTITIONS = 4
# The shortest that the broker allows.
SESSION_SECONDS = 6
ORIGIN = "5b1e0c9f7a2d4e83"
SETTINGS = {
    "TURNSTREAM_TOPICS__PARTITIONS": str(PARTITIONS),
    "TURNSTREAM_TOPICS__PARTITIONS_TOKENS": "2",
    "TURNSTREAM_WINDOWS__SESSION_TIMEOUT_S": str(SESSION_SECONDS),
    "TURNSTREAM_WINDOWS__ABUSE__BLOCKED_INPUTS": '{"warn": 2, "slow": 4, "suspend": 6}',
    "TURNSTREAM_WINDOWS__ABUSE__BURST": '{"warn": 5}',
    "TURNSTREAM_WINDOWS__ABUSE__MANY_KEYS": '{"warn": 3}',
}


def verdict(user: str, turn: int, decision: Decision = Decision.BLOCKED_INPUT) -> ModerationDecided:
    return ModerationDecided(
        turn_id=f"{user}-{turn}",
        conversation_id="c",
        tenant_id="acme",
        user_id=user,
        decision=decision,
        policy_version="1",
        decided_at_ms=NOW_MS + turn,
    )


def bill(user: str, turn: int, key: str = "key", origin: str | None = None, plan: str = "free") -> UsageRecorded:
    return UsageRecorded(
        turn_id=f"{user}-{turn}",
        conversation_id="c",
        tenant_id="acme",
        user_id=user,
        key_id=key,
        plan=plan,
        model="model",
        pool="fast",
        usage=Usage(prompt_tokens=10, completion_tokens=5),
        finish_reason=FinishReason.STOP,
        origin=origin,
        attempt=1,
        duration_ms=5,
        submitted_at_ms=NOW_MS,
        recorded_at_ms=NOW_MS + turn,
    )


@dataclass
class Signals:
    """A Kafka with our topics, the signals on it, and worker processes that can be killed."""

    bootstrap: str
    folder: Path
    producer: AIOKafkaProducer
    consumer: AIOKafkaConsumer
    heard: dict[str, list[AbuseSignalled]] = field(default_factory=dict)
    workers: int = 0

    async def put(self, *events: Event, marks: headers.Headers = ()) -> None:
        for event in events:
            if isinstance(event, ModerationDecided):
                topic, key = MODERATION_DECISIONS, event.turn_id
            elif isinstance(event, AbuseEvidence):
                topic, key = ABUSE_EVIDENCE, event.subject_id
            else:
                topic, key = USAGE_EVENTS, getattr(event, "user_id", "")
            await self.producer.send_and_wait(topic.name, encode(event), key=key.encode(), headers=list(marks))

    async def level(self, user: str, level: str) -> AbuseSignalled:
        """The first signal that puts ``user`` on this level."""
        async with asyncio.timeout(SEEN_SECONDS_MAX):
            while True:
                for one in self.heard.get(user, ()):
                    if one.level.value == level:
                        return one
                self._hear(await self.consumer.getone())

    def _hear(self, record: object) -> None:
        signalled: AbuseSignalled = decode(ABUSE_SIGNALS, getattr(record, "value", b""))
        assert getattr(record, "key", b"") == f"acme|{signalled.user_id}".encode()
        self.heard.setdefault(signalled.user_id, []).append(signalled)

    def levels(self, user: str) -> list[str]:
        """The levels that were heard of ``user``, in order; one that was given again after a crash is there once."""
        return [level for level, _ in groupby(one.level.value for one in self.heard.get(user, ()))]

    @asynccontextmanager
    async def worker(self) -> AsyncIterator["asyncio.subprocess.Process"]:
        """``turnstream run windows``, reading, until the block ends; it may be dead before."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TURNSTREAM_")}
        self.workers += 1
        written = self.folder / f"windows-{self.workers}.log"
        with written.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "turnstream", "run", "windows"),
                env={**inherited, **SETTINGS, "TURNSTREAM_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap},
                stdout=log,
                stderr=log,
            )

        async def started() -> bool:
            return b"windows_started" in written.read_bytes()

        try:
            await eventually(started, SEEN_SECONDS_MAX)
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            await process.wait()


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real_servers(tmp_path_factory.mktemp("abuse"), "kafka") as stack:
        servers = str(stack.endpoints.kafka)
        asyncio.run(create_topics(KafkaSettings(bootstrap_servers=servers), plan_topics(PARTITIONS, 2, 1)))
        yield servers


@pytest.fixture
async def signals(bootstrap: str, tmp_path: Path) -> AsyncIterator[Signals]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    consumer = AIOKafkaConsumer(ABUSE_SIGNALS.name, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await producer.start()
    await consumer.start()
    try:
        yield Signals(bootstrap, tmp_path, producer, consumer)
    finally:
        await consumer.stop()
        await producer.stop()


async def test_every_cause_leads_to_its_signal_and_nothing_else_does(signals: Signals) -> None:
    shadow = headers.make_headers([(headers.REPLAY, "run")])
    async with signals.worker():
        await signals.put(*(verdict("quiet", turn, Decision.ALLOWED) for turn in range(20)))
        await signals.put(*(verdict("quiet", turn) for turn in range(20)), marks=shadow)
        await signals.put(*(bill("paying", turn, origin=ORIGIN, plan="enterprise") for turn in range(20)))
        await signals.put(*(bill(f"u{number}", 1, f"k{number}", ORIGIN) for number in range(2)))
        await signals.put(*(verdict("rude", turn) for turn in (1, 1, 1, 2, 2)))
        await signals.put(*(bill("hasty", turn) for turn in (1, 1, 2, 3, 4, 5)))
        rude, hasty = await signals.level("rude", "warn"), await signals.level("hasty", "warn")
        assert (rude.causes, rude.counts) == (("blocked_inputs",), {"blocked_inputs": 2})
        assert (hasty.causes, hasty.counts) == (("burst",), {"burst": 5})
        await signals.put(bill("crowd", 1, "k9", ORIGIN))
        crowd = await signals.level("crowd", "warn")
        assert (crowd.causes, crowd.counts) == (("many_keys",), {"many_keys": 3, "burst": 1})
        await signals.put(AbuseEvidence(kind="lifted", tenant_id="acme", user_id="rude", seen_at_ms=NOW_MS + 9))
        lifted = await signals.level("rude", "none")
        assert (lifted.causes, lifted.until_ms) == ((), None)
    assert not {"quiet", "paying"} & signals.heard.keys()


async def test_signals_that_were_due_come_after_a_worker_was_killed(signals: Signals) -> None:
    async with signals.worker() as killed:
        await signals.put(*(verdict("ann", turn) for turn in range(3)))
        await signals.level("ann", "warn")
        killed.send_signal(signal.SIGKILL)
        await killed.wait()
        # Nobody works: this must not be lost, and what was counted before must be known again.
        await signals.put(*(verdict("ann", turn) for turn in (2, 3)))
    async with signals.worker():
        slow = await signals.level("ann", "slow")
    assert slow.counts == {"blocked_inputs": 4}
    assert signals.levels("ann") == ["warn", "slow"]


async def test_workers_that_join_and_die_lose_no_evidence(signals: Signals) -> None:
    users = [f"user-{number}" for number in range(8)]
    async with signals.worker():
        await signals.put(*(verdict(user, turn) for user in users for turn in range(2)))
        for user in users:
            await signals.level(user, "warn")
        async with signals.worker() as second:
            await signals.put(*(verdict(user, turn) for turn in range(2, 4) for user in users))
            for user in users:
                assert (await signals.level(user, "slow")).counts == {"blocked_inputs": 4}
            second.send_signal(signal.SIGKILL)
            await second.wait()
        await signals.put(*(verdict(user, turn) for turn in range(4, 6) for user in users))
        for user in users:
            assert (await signals.level(user, "suspend")).counts == {"blocked_inputs": 6}
