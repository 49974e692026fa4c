"""The real owner of a turn under seeded faults: processes that die or stall, a log and a backend that fail.

A member of the group works on the one record; when it is dead or silent for a session another gets it; one that wakes
from a stall is told within a heartbeat or two that it was replaced. Appends may fail and have landed, wholly or in
part, at once or later. What comes of it is judged by ``problems_of``, from the records alone.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field

from consumers.inference.cancel_listener import CancelListener
from consumers.inference.core import InferenceSettings
from consumers.inference.stage import InferTurn
from consumers.retry import RetryPolicy
from schemas import serde
from schemas.errors import OutcomeUnknown, Retryable
from schemas.events import InferenceRequested
from schemas.ports import Generated, OnLanded, Outgoing, Pile, Record, TopicPartition
from schemas.topics import TURNS_CANCELLED, USAGE_EVENTS
from tests.support.memory_log import MemoryLog
from tests.support.posting import post
from tests.unit.inference.inference_fakes import NOW_MS, FakeMetrics, FakePolicy, make_request, receive

WORDS = tuple(f" w{number}" for number in range(12))
SESSION_S = 6.0
TOLD_S_MAX = 0.6
STALL_S_MAX = 20.0
RESTART_S = 2.0
APPEND_S_MAX = 1.0
# So many generations pile up until they are taken.
PILING = 0.5
LATE_S_MAX = 3.0
FAULTS_MAX = 4
END_S_MAX = 1_000.0
RETRY = RetryPolicy(first_delay_s=0.2)


@dataclass(frozen=True)
class Rates:
    """How often what fails, per call."""

    append: float = 0.08
    read: float = 0.05
    backend: float = 0.03


class Simulation:
    """One turn, its log, and who works on it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.loop = asyncio.get_running_loop()
        self.memory = MemoryLog(topics={USAGE_EVENTS.name: 1, TURNS_CANCELLED.name: 1})
        self.rates = Rates()
        self.settings = InferenceSettings()
        self.done = asyncio.Event()
        self.members: list[Member] = []

    def now_ms(self) -> int:
        self.memory.now_ms = NOW_MS + int(self.loop.time() * 1000)
        return self.memory.now_ms

    def put(self, records: Sequence[Outgoing]) -> list[int]:
        """Let records land now."""
        self.now_ms()
        return [self.memory.put(one.topic, one.key, one.value, one.headers, one.partition).offset for one in records]

    async def run(self) -> None:
        """Until the turn is committed and everybody who was replaced is gone."""
        async with asyncio.TaskGroup() as group:
            self._join(group)
            for _ in range(self.chance.randint(0, FAULTS_MAX)):
                await asyncio.sleep(self.chance.expovariate(1 / 2))
                if not self.done.is_set():
                    await self._fault(group)
            async with asyncio.timeout(END_S_MAX):
                await self.done.wait()
            await asyncio.sleep(STALL_S_MAX + LATE_S_MAX)

    def _join(self, group: asyncio.TaskGroup) -> None:
        member = Member(self, f"m{len(self.members)}")
        self.members.append(member)
        member.task = group.create_task(member.work())

    async def _fault(self, group: asyncio.TaskGroup) -> None:
        owner = self.members[-1]
        if self.chance.random() < 0.4:
            owner.leave()
            await asyncio.sleep(self.chance.choice((RESTART_S, SESSION_S)))
            self._join(group)
            return
        stall_s = self.chance.uniform(0.1, STALL_S_MAX)
        owner.stall(stall_s)
        if stall_s > SESSION_S:
            await asyncio.sleep(SESSION_S)
            self._join(group)
            told_s = self.chance.uniform(0, TOLD_S_MAX)
            self.loop.call_later(stall_s - SESSION_S + told_s, owner.leave)


@dataclass(eq=False)
class Member:
    """One process of the group, as log, reader and backend see it."""

    world: Simulation
    name: str
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None
    stalls: int = 0

    def __post_init__(self) -> None:
        self.awake.set()

    def stall(self, stall_s: float) -> None:
        """Do nothing for so long; two stalls may overlap."""
        self.stalls += 1
        self.awake.clear()
        self.world.loop.call_later(stall_s, self.wake)

    def wake(self) -> None:
        """Go on, if nothing else holds it."""
        self.stalls -= 1
        if not self.stalls:
            self.awake.set()

    def leave(self) -> None:
        """Die, or be told that the record is somebody else's."""
        if self.task is not None:
            self.task.cancel()

    async def work(self) -> None:
        """What the consume loop does with the record; the commit of a member that left fails."""
        world, waited_s = self.world, 0.0
        tail = world.memory.tail([TopicPartition(TURNS_CANCELLED.name, 0)])
        stage = InferTurn(
            producer=self,
            reader=self,
            backend=self,
            policy=FakePolicy(),
            metrics=FakeMetrics(),
            cancels=CancelListener(tail),
            now_ms=world.now_ms,
            owner_id=self.name,
            settings=world.settings,
        )
        for attempt in range(1, RETRY.attempts_max):
            try:
                await stage(receive(make_request(deadline_ms=NOW_MS + 10_000_000)))
            except Retryable:
                assert not RETRY.exhausted(attempt, waited_s)
            else:
                break
            delay_s = RETRY.delay_s(attempt, world.chance.random())
            await asyncio.sleep(delay_s)
            waited_s += delay_s
        await self.awake.wait()
        if world.members[-1] is self:
            world.done.set()

    # --- the ports ---------------------------------------------------------------------------------------

    async def append(self, records: Sequence[Outgoing]) -> Sequence[int]:
        world = self.world
        await self._hop()
        if world.chance.random() >= world.rates.append:
            offsets = world.put(records)
            await self._hop()
            return offsets
        fate = world.chance.choice(("lost", "landed", "late", "part"))
        if fate == "late":
            world.loop.call_later(world.chance.uniform(0, LATE_S_MAX), world.put, tuple(records))
        elif fate != "lost":
            world.put(records if fate == "landed" else records[: world.chance.randint(0, len(records))])
        await asyncio.sleep(APPEND_S_MAX)
        await self.awake.wait()
        raise OutcomeUnknown("simulated")

    def post(self, records: Sequence[Outgoing], on_landed: OnLanded) -> None:
        post(self.append, records, on_landed)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        await self._read()
        return {partition: self.world.memory.end(partition) for partition in partitions}

    async def offsets_at(self, partitions: Sequence[TopicPartition], timestamp_ms: int) -> Mapping[TopicPartition, int]:
        assert timestamp_ms
        await self._read()
        return dict.fromkeys(partitions, 0)

    async def read_range(self, partition: TopicPartition, start: int, stop: int) -> Sequence[Record]:
        await self._read()
        return self.world.memory.slice(partition, start, stop)

    async def offsets_of(self, partition: TopicPartition, key: bytes, start: int, stop: int) -> Sequence[int]:
        return [record.offset for record in await self.read_key(partition, key, start, stop)]

    async def read_key(self, partition: TopicPartition, key: bytes, start: int, stop: int) -> Sequence[Record]:
        return [record for record in await self.read_range(partition, start, stop) if record.key == key]

    async def generate(
        self, request: InferenceRequested, prefix: str, pile: Pile | None = None
    ) -> AsyncGenerator[Generated, None]:
        whole = "".join(WORDS)
        spoken = len(prefix.split())
        assert whole.startswith(prefix)
        feed = Piling(pile) if pile is not None and self.world.chance.random() < PILING else None
        for word in WORDS[spoken:][: request.prompt.max_tokens]:
            await asyncio.sleep(self.world.chance.expovariate(1 / 0.4))
            await self.awake.wait()
            if self.world.chance.random() < self.world.rates.backend:
                raise Retryable("simulated")
            step = Generated(text=word, tokens=1)
            if feed is None:
                yield step
            else:
                feed.put(step)
        if feed is not None:
            feed.over = True
            for step in feed.take():
                yield step
        yield Generated(text="", tokens=0, finish_reason="stop")

    async def ready(self) -> bool:
        return True

    async def close(self) -> None: ...

    async def _read(self) -> None:
        await self._hop()
        if self.world.chance.random() < self.world.rates.read:
            await asyncio.sleep(APPEND_S_MAX)
            raise Retryable("simulated")

    async def _hop(self) -> None:
        await asyncio.sleep(self.world.chance.uniform(0.001, 0.02))
        await self.awake.wait()


def problems_of(memory: MemoryLog, tokens_topic: str) -> list[str]:
    """What a client, an analyst or an operator would complain about. Knows the rules, and shares no code with them."""
    attempt, owner, text, seq, ended_attempt = 0, "", "", 0, 0
    endings: list[str] = []
    for record in memory.records(tokens_topic):
        event = serde.decode_token(record.value).model_dump(mode="json")
        mine = (event.get("attempt"), event.get("owner")) == (attempt, owner)
        if endings:
            continue
        if event["type"] == "attempt_started" and event["attempt"] > attempt:
            attempt, owner = event["attempt"], event["owner"]
        elif event["type"] == "delta" and mine and event["seq"] == seq:
            text, seq = text + event["content"], seq + 1
        elif event["type"] in {"finished", "failed"} and mine:
            endings.append(event["type"])
            ended_attempt = attempt
    bills = [serde.decode(USAGE_EVENTS, record.value) for record in memory.records(USAGE_EVENTS.name)]
    problems = []
    if endings != ["finished"]:
        problems.append(f"ended {endings}")
    if text != "".join(WORDS):
        problems.append(f"text {text!r}")
    if {(bill.usage.completion_tokens, bill.attempt) for bill in bills} != {(len(WORDS), ended_attempt)}:
        problems.append(f"bills {[(bill.usage.completion_tokens, bill.attempt) for bill in bills]}")
    return problems


class Piling:
    """Feeds ``pile``; while it is paused it tells nobody."""

    def __init__(self, pile: Pile) -> None:
        self._pile = pile
        self._steps: list[Generated] = []
        self._paused = False
        self.over = False
        pile.feed = self

    def put(self, step: Generated) -> None:
        self._steps.append(step)
        if not self._paused:
            self._pile.on_more()

    def take(self) -> Sequence[Generated]:
        taken, self._steps = self._steps, []
        self._paused = self._paused and bool(taken)
        return taken

    def pause(self) -> None:
        self._paused = True
