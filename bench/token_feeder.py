"""Answers turns in place of all stages behind the edge: straight from the submitted topic to the tokens topic.

    python bench/token_feeder.py        with the environment of a stack; says "ready" and runs until it is ended

The question names the text and the pace, as for ``fake_upstream.py``. One record is one token; all tokens that are due
within a tick go to the log in one append.
"""

import asyncio
from typing import Final

import uvloop
from requests_for import ACCOUNT, MODEL
from words import find_question, place

from schemas import serde
from schemas.content import Content
from schemas.event import Event
from schemas.events import FinishReason, RateLimits, TurnSubmitted, Usage
from schemas.ids import turn_partition
from schemas.ports import LogTail, Outgoing, Producer, Record, TopicPartition
from schemas.tokens import AttemptStarted, Cleared, Delta, Finished
from schemas.topics import TOKENS, TURNS_SUBMITTED
from turnstream.log.kafka_log_tail import KafkaLogTail
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.settings import Settings

TICK_S: Final = 0.005
POLL_RECORDS_MAX: Final = 1_000
OWNER: Final = "bench"
LIMITS: Final = RateLimits(
    limit_requests=1,
    remaining_requests=1,
    reset_requests_ms=0,
    limit_tokens=1,
    remaining_tokens=1,
    reset_tokens_ms=0,
)


class Answering:
    """One turn that is answered."""

    def __init__(self, submitted: TurnSubmitted, now_s: float) -> None:
        self.turn = submitted.turn
        tag, pace = find_question(submitted.input[-1].content.text.encode()) or ("bbbb", {})
        self.tag = tag
        self.tokens = pace.get("tokens", 60)
        self.gap_s = pace.get("gap_ms", 20) / 1000
        self.due_s = now_s + pace.get("first_ms", 50) / 1000
        self.index = 0
        self._partition = turn_partition(self.turn.turn_id)
        self._headers = serde.event_headers(TOKENS, self.turn.turn_id)

    def record(self, event: Event) -> Outgoing:
        """An event of the answer."""
        return Outgoing(TOKENS.name, self.turn.turn_id.encode(), serde.encode(event), self._headers, self._partition)

    def opening(self) -> list[Outgoing]:
        """Clearance and fence."""
        turn = self.turn
        cleared = Cleared(
            turn_id=turn.turn_id,
            conversation_id=turn.conversation_id,
            tenant_id=ACCOUNT.tenant_id,
            user_id=ACCOUNT.user_id,
            model=MODEL,
            stored=turn.stored,
            message_seq=0,
            submitted_at_ms=turn.submitted_at_ms,
            limits=LIMITS,
        )
        return [self.record(cleared), self.record(AttemptStarted(turn_id=turn.turn_id, attempt=1, owner=OWNER))]

    def due(self, now_s: float) -> list[Outgoing]:
        """The tokens that are due, and the end after the last."""
        records: list[Outgoing] = []
        turn_id = self.turn.turn_id
        while self.index < self.tokens and self.due_s <= now_s:
            text = Content(f"{self.tag}{place(self.index)} ")
            delta = Delta(turn_id=turn_id, attempt=1, owner=OWNER, seq=self.index, content=text, tokens=1)
            records.append(self.record(delta))
            self.index += 1
            self.due_s += self.gap_s
        if self.index == self.tokens:
            usage = Usage(prompt_tokens=20, completion_tokens=self.tokens)
            end = Finished(
                turn_id=turn_id, attempt=1, owner=OWNER, seq=self.tokens, finish_reason=FinishReason.STOP, usage=usage
            )
            records.append(self.record(end))
        return records


async def feed(tail: LogTail, producer: Producer) -> None:
    """Answer what comes, until cancelled."""
    loop = asyncio.get_running_loop()
    answering: list[Answering] = []

    async def take() -> None:
        while True:
            records: list[Record] = list(await tail.poll(POLL_RECORDS_MAX, 1.0))
            new = [Answering(serde.decode(TURNS_SUBMITTED, record.value), loop.time()) for record in records]
            if new:
                await producer.append([record for one in new for record in one.opening()])
                answering.extend(new)

    async def write() -> None:
        next_s = loop.time()
        while True:
            next_s = max(next_s + TICK_S, loop.time())
            await asyncio.sleep(next_s - loop.time())
            now_s = loop.time()
            records = [record for one in answering for record in one.due(now_s)]
            if records:
                answering[:] = [one for one in answering if one.index < one.tokens]
                await producer.append(records)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(take())
        tasks.create_task(write())


async def run() -> None:
    """Connect, say so, feed."""
    settings = Settings()
    count = settings.topics.partitions or TURNS_SUBMITTED.partitions
    partitions = [TopicPartition(TURNS_SUBMITTED.name, number) for number in range(count)]
    async with KafkaProducer(settings.kafka) as producer, KafkaLogTail(settings.kafka, partitions) as tail:
        print("ready", flush=True)
        await feed(tail, producer)


def main() -> None:
    """Run until ended."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


if __name__ == "__main__":
    main()
