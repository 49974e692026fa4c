"""Dead letters on a log in memory, and redrives of them."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from consumers.dead_letter import dead_letter, failed_turn
from producers.audit.reading import read_actions
from producers.audit.trail import AuditTrail
from producers.redrive.letters import Letter, read_letter
from producers.redrive.mending import UNCHANGED, Mending
from producers.redrive.ports import RedrivePorts
from producers.redrive.stage import Redrive
from producers.redrive.states import Fates, fold
from producers.redrive.summary import RedriveRequest, RedriveSettings, RedriveSummary
from producers.replay.pace import Pace
from schemas import headers, serde
from schemas.errors import Malformed
from schemas.event import Event
from schemas.ports import Record
from schemas.topics import ALL_TOPICS, OPERATIONS_AUDIT, TOKENS, Topic
from tests.support import turn_events as have
from tests.support.memory_log import MemoryLog
from tests.support.memory_stores import MemoryActiveTurns, MemoryConversationDirectory, MemoryTurnLookup

SETTINGS = RedriveSettings(batch_letters_max=3, settle_seconds_max=1, settle_poll_seconds=0.5)
PARTITIONS = 8
UNPACED = Pace(None, lambda: 0.0)


def single_partitions() -> dict[str, int]:
    return {OPERATIONS_AUDIT.name: 1, **{topic.dlq: 1 for topic in ALL_TOPICS if topic.dead_letters}}


@dataclass
class RedriveWorld:
    log: MemoryLog = field(default_factory=lambda: MemoryLog(PARTITIONS, single_partitions()))
    turns: MemoryTurnLookup = field(default_factory=MemoryTurnLookup)
    conversations: MemoryConversationDirectory = field(default_factory=MemoryConversationDirectory)
    active: MemoryActiveTurns = field(default_factory=MemoryActiveTurns)
    waited_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log.now_ms = have.NOW_MS + 3_600_000

    async def wait(self, seconds: float) -> None:
        self.waited_s.append(seconds)

    def bury(self, topic: Topic, value: Event | bytes, turn_id: str | None, *extra: tuple[str, bytes]) -> Letter:
        """Put a record on its topic and give it up, as a consume loop does."""
        encoded = value if isinstance(value, bytes) else serde.encode(value)
        source = self.log.put(topic.name, b"key", encoded, (*serde.event_headers(topic, turn_id), *extra), 0)
        buried = dead_letter(topic, source, "stage", Malformed(f"{topic.name}: turn.max_tokens: too small"))
        letter = read_letter(self.log.put(buried.topic, buried.key, buried.value, buried.headers, 0))
        ended = failed_turn(source)
        if ended is not None:
            self.log.put(ended.topic, ended.key, ended.value, ended.headers, ended.partition)
        assert letter is not None
        return letter

    def ports(self, actor: str = "os:op") -> RedrivePorts:
        producer, reader = self.log.producer(), self.log.reader()
        return RedrivePorts(
            producer=producer,
            reader=reader,
            trail=AuditTrail(producer, actor, secrets.token_bytes, lambda: self.log.now_ms),
            actions=lambda: read_actions(reader),
            turns=self.turns,
            conversations=self.conversations,
            active=self.active,
            now_ms=lambda: self.log.now_ms,
            wait=self.wait,
            tokens_partitions=PARTITIONS,
        )

    async def redrive(
        self, letters: Sequence[Letter], patch: dict[str, Any] | None = None, *, again: bool = False
    ) -> RedriveSummary:
        mending = UNCHANGED if patch is None else Mending(patch=patch)
        run = Redrive(self.ports(), SETTINGS, RedriveRequest(mending, None, again), UNPACED)
        return await run.run(letters, lambda _more: None)

    def driven(self, topic: Topic) -> list[Record]:
        """The records on ``topic`` that a redrive has put there."""
        return [
            record
            for record in self.log.records(topic.name)
            if headers.header(record.headers, headers.REDRIVE) is not None
        ]

    async def fates(self) -> Fates:
        return fold(await read_actions(self.log.reader()))

    def answers(self) -> list[tuple[str, str]]:
        """The redriven records of the answers: turn and type."""
        return [
            (headers.header(record.headers, headers.TURN) or "", serde.decode_token(record.value).type)
            for record in self.driven(TOKENS)
        ]
