"""Tokens and rows a second that one core of the sink stores.

    python bench/sink_alone.py [--turns 5000]

Whole stored turns lie on the tokens topic before the sink starts: a question, 60 tokens of one record each, the end;
64 turns of a partition at a time are interleaved, 20 ms of log time between two tokens. Measured is from the first
``persisted`` to the last, by the clock and by the CPU of the sink, of Cassandra, Redis and Kafka; rows are what the
tables have more afterwards. Beside it stands what reading the same records takes that does nothing with them.
"""

import argparse
import asyncio
import os
import sys
import time
from asyncio.subprocess import DEVNULL
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kept import keep_if_quiet, wait_for_quiet
from machine import tree_cpu_seconds
from requests_for import ACCOUNT, MODEL, new_turn, user_message
from rich.console import Console
from rich.table import Table
from stacks import STORES, bench_stack, pids
from token_feeder import LIMITS, OWNER
from words import place

from schemas import serde
from schemas.content import Content
from schemas.event import Event
from schemas.events import FinishReason, Turn, Usage
from schemas.ports import Cql, LogReader, Outgoing, TopicPartition
from schemas.tokens import AttemptStarted, Cleared, Delta, Finished
from schemas.topics import TOKENS
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.settings import Settings
from turnstream.stores.cassandra import open_session

ANSWER_TOKENS: Final = 60
GAP_MS: Final = 20
INTERLEAVED: Final = 64
POLL_S: Final = 0.02
SECONDS_MAX: Final = 300
PAGE_RECORDS: Final = 5_000
QUESTION: Final = "Please explain in two sentences how a replicated log keeps its readers in the same order."


def events(turn: Turn, seq: int) -> Iterator[Event]:
    """A whole answer, event by event."""
    turn_id = turn.turn_id
    yield Cleared(
        turn_id=turn_id,
        conversation_id=turn.conversation_id,
        tenant_id=ACCOUNT.tenant_id,
        user_id=ACCOUNT.user_id,
        model=MODEL,
        stored=True,
        message_seq=seq,
        submitted_at_ms=turn.submitted_at_ms,
        limits=LIMITS,
        input=(user_message(QUESTION),),
    )
    yield AttemptStarted(turn_id=turn_id, attempt=1, owner=OWNER)
    for index in range(ANSWER_TOKENS):
        text = Content(f"bcdf{place(index)} ")
        yield Delta(turn_id=turn_id, attempt=1, owner=OWNER, seq=index, content=text, tokens=1)
    usage = Usage(prompt_tokens=20, completion_tokens=ANSWER_TOKENS)
    reason = FinishReason.STOP
    yield Finished(turn_id=turn_id, attempt=1, owner=OWNER, seq=ANSWER_TOKENS, finish_reason=reason, usage=usage)


def interleaved(partition: int, turns: int, began_ms: int) -> Iterator[Outgoing]:
    """The records of so many turns side by side."""
    made = [new_turn(partition, stored=True) for _ in range(turns)]
    for step, row in enumerate(zip(*(events(turn, 0) for turn in made), strict=True)):
        for turn, event in zip(made, row, strict=True):
            yield Outgoing(
                TOKENS.name,
                turn.turn_id.encode(),
                serde.encode(event),
                serde.event_headers(TOKENS, turn.turn_id),
                partition,
                began_ms + step * GAP_MS,
            )


async def rows_in(cql: Cql, keyspace: str) -> int:
    """Rows of all tables."""
    tables = await cql.execute("SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?", (keyspace,))
    total = 0
    for table in tables:
        (counted,) = await cql.execute(f"SELECT COUNT(*) AS total FROM {keyspace}.{table.table_name}")  # noqa: S608 - our schema
        total += counted.total
    return total


async def measure(settings: Settings, servers: Mapping[str, int], turns: int) -> dict[str, Any]:
    """Fill the log, run the sink over it, count."""
    partitions = settings.topics.partitions_tokens or TOKENS.partitions
    places = [TopicPartition(TOKENS.name, number) for number in range(partitions)]
    async with (
        KafkaProducer(settings.kafka) as producer,
        KafkaLogReader(settings.kafka) as reader,
        open_session(settings.cassandra) as cql,
    ):
        began_ms = time.time_ns() // 1_000_000
        for start in range(0, turns, INTERLEAVED):
            some = min(INTERLEAVED, turns - start)
            await producer.append(list(interleaved(start // INTERLEAVED % partitions, some, began_ms)))
        written = await size(reader, places)
        read_us = await reading_alone(reader, places)
        before = await rows_in(cql, settings.cassandra.keyspace)
        command = (sys.executable, "-m", "turnstream", "run", "sink")
        process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
        try:
            found = await watch(reader, places, (written, turns), {"sink": process.pid, **servers})
        finally:
            process.terminate()
            await process.wait()
        rows = await rows_in(cql, settings.cassandra.keyspace) - before
    rows_per_turn = rows / turns
    return {
        **found,
        "rows_per_turn": round(rows_per_turn, 2),
        "rows_per_s": round(found["turns_per_s"] * rows_per_turn),
        "rows_per_cpu_s": round(1e6 / found["cpu_us_per_token"]["sink"] / ANSWER_TOKENS * rows_per_turn),
        "reading_alone_us_per_token": read_us,
    }


async def size(reader: LogReader, places: list[TopicPartition]) -> int:
    """Records on the topic."""
    return sum((await reader.end_offsets(places)).values())


async def reading_alone(reader: LogReader, places: list[TopicPartition]) -> float:
    """CPU microseconds a record of fetching all of them here."""
    spent_s, records = time.process_time(), 0
    for where, end in (await reader.end_offsets(places)).items():
        for start in range(0, end, PAGE_RECORDS):
            records += len(await reader.read_range(where, start, min(end, start + PAGE_RECORDS)))
    return round(1e6 * (time.process_time() - spent_s) / max(1, records), 1)


async def watch(
    reader: LogReader, places: list[TopicPartition], sizes: tuple[int, int], watched: Mapping[str, int]
) -> dict[str, Any]:
    """From the first ``persisted`` to the last. Raises TimeoutError."""
    written, turns = sizes
    first: tuple[float, int, dict[str, float]] | None = None
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            done = await size(reader, places) - written
            now = (time.perf_counter(), done, {name: tree_cpu_seconds(pid) for name, pid in watched.items()})
            if first is None and done:
                first = now
            if first is not None and done >= turns:
                break
            await asyncio.sleep(POLL_S)
    stored = max(1, now[1] - first[1])
    seconds, tokens = now[0] - first[0], stored * ANSWER_TOKENS
    cpu_s = {name: now[2][name] - first[2][name] for name in watched}
    return {
        "turns": stored,
        "turns_per_s": round(stored / seconds, 1),
        "tokens_per_s": round(tokens / seconds),
        "tokens_per_cpu_s": round(tokens / max(0.01, cpu_s["sink"])),
        "cpu_us_per_token": {name: max(0.1, round(1e6 * spent / tokens, 1)) for name, spent in cpu_s.items()},
    }


def main() -> None:
    """Start the servers, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5_000)
    options = parser.parse_args()
    busy = wait_for_quiet()
    with bench_stack(servers=STORES, processes=()) as stack:
        os.environ.update(stack.environment())
        servers = {name: pid for name, pid in pids(stack).items() if name in STORES}
        results = asyncio.run(measure(Settings(), servers, options.turns))
    table = Table("turns/s", "tokens/s", "rows/s", "tokens/s a core", "rows/s a core", title="The sink alone")
    for column in ("CPU a token", "servers", "reading alone"):
        table.add_column(column)
    spent = results["cpu_us_per_token"]
    table.add_row(
        str(results["turns_per_s"]),
        f"{results['tokens_per_s']:,}",
        f"{results['rows_per_s']:,}",
        f"{results['tokens_per_cpu_s']:,}",
        f"{results['rows_per_cpu_s']:,}",
        f"{spent['sink']} us",
        f"{sum(cost for name, cost in spent.items() if name != 'sink'):.1f} us",
        f"{results['reading_alone_us_per_token']} us",
    )
    Console(width=130).print(table)
    keep_if_quiet("sink-alone", results, busy)


if __name__ == "__main__":
    main()
