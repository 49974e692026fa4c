"""What a bill costs the windows worker: CPU time of the process, on a real Kafka, and whether its sums are right.

    python bench/windows.py [--bills 20000] [--rate 240]

Two ways to come: as fast as they can be written, as after a standstill, and ``--rate`` a second (a tenth as many).
Each with many users who send a turn now and then, and with few who send many. With each bill comes the verdict of
moderation on its turn; a fiftieth of them says blocked. Measured is CPU time (the machine may be busy) of a worker that
is up, until it has committed everything. Afterwards the last rollups of all minutes must add up to the bills.
"""

import argparse
import asyncio
import logging
import os
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient
from kept import keep_if_quiet, wait_for_quiet
from machine import cpu_seconds
from rich.console import Console
from rich.table import Table
from stacks import fresh_stack

from schemas import serde
from schemas.events import Decision, FinishReason, ModerationDecided, Usage, UsageRecorded, UsageRolledUp
from schemas.ids import new_turn_id
from schemas.ports import Outgoing, TopicPartition
from schemas.topics import ABUSE_EVIDENCE, MODERATION_DECISIONS, USAGE_EVENTS, USAGE_ROLLUPS, plan_topics
from turnstream.local_stack.plan import StackOptions
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.log.kafka_topics import create_topics
from turnstream.settings import Settings

GROUP = "turnstream.windows"
READ = (USAGE_EVENTS, MODERATION_DECISIONS, ABUSE_EVIDENCE)
PARTITIONS = 16
BATCH_RECORDS = 500
POLL_S = 0.1
SECONDS_MAX = 120
WARM_USERS = 200
BLOCKED_EVERY = 50
# Event time, whatever the pace of the benchmark: so many bills a second.
RECORDED_PER_S = 240


@dataclass(frozen=True)
class Case:
    """How bills come."""

    name: str
    users: int
    bills: int
    rate: int | None


def turn(case: Case, number: int, first_ms: int) -> list[Outgoing]:
    """The verdict and the bill of one turn."""
    at_ms = first_ms + number * 1_000 // RECORDED_PER_S
    turn_id = new_turn_id(at_ms, number % 16, os.urandom(8))
    # A multiplicative hash, so that users do not come in turns.
    user = f"{case.name}-{number * 2_654_435_761 % 2**32 % case.users}"
    verdict = ModerationDecided(
        turn_id=turn_id,
        conversation_id=turn_id,
        tenant_id="acme",
        user_id=user,
        decision=Decision.ALLOWED if number % BLOCKED_EVERY else Decision.BLOCKED_INPUT,
        policy_version="1",
        decided_at_ms=at_ms,
    )
    bill = UsageRecorded(
        turn_id=turn_id,
        conversation_id=turn_id,
        tenant_id="acme",
        user_id=user,
        key_id=f"key-of-{user}",
        plan="free",
        model="turnstream-fast",
        pool="fast",
        usage=Usage(prompt_tokens=200, completion_tokens=300),
        finish_reason=FinishReason.STOP,
        origin=f"{number % case.users:016x}",
        attempt=1,
        duration_ms=5_000,
        submitted_at_ms=at_ms,
        recorded_at_ms=at_ms,
    )
    return [
        Outgoing(
            MODERATION_DECISIONS.name,
            turn_id.encode(),
            serde.encode(verdict),
            serde.event_headers(MODERATION_DECISIONS, turn_id),
        ),
        Outgoing(USAGE_EVENTS.name, user.encode(), serde.encode(bill), serde.event_headers(USAGE_EVENTS, turn_id)),
    ]


async def write(producer: KafkaProducer, case: Case) -> None:
    """Put the case's turns on the log, at its rate."""
    first_ms = time.time_ns() // 1_000_000
    started = time.perf_counter()
    together = BATCH_RECORDS if case.rate is None else max(1, case.rate // 50)
    for start in range(0, case.bills, together):
        numbers = range(start, min(start + together, case.bills))
        await producer.append([record for number in numbers for record in turn(case, number, first_ms)])
        if case.rate is not None:
            await asyncio.sleep(max(0.0, started + numbers.stop / case.rate - time.perf_counter()))


async def measure(settings: Settings, case: Case) -> dict[str, Any]:
    """Run one worker over the case: from when it has nothing to do to when it has nothing to do again."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers.split(","))
    await admin.start()
    async with KafkaProducer(settings.kafka) as producer, KafkaLogReader(settings.kafka) as reader:
        await write(producer, Case(f"warm-{case.name}", users=WARM_USERS, bills=WARM_USERS, rate=None))
        command = (sys.executable, "-m", "turnstream", "run", "windows")
        process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
        try:
            async with asyncio.timeout(SECONDS_MAX):
                await settled(admin, reader, process)
                started, cpu_s = time.perf_counter(), cpu_seconds(process.pid)
                await write(producer, case)
                await settled(admin, reader, process)
            seconds, cpu_s = time.perf_counter() - started, cpu_seconds(process.pid) - cpu_s
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            await admin.close()
        rolled_up = await minutes(reader, case)
    if rolled_up != case.bills:
        raise SystemExit(f"{case.name}: the rollups count {rolled_up:,} turns of {case.bills:,}")
    return {
        "case": case.name,
        "users": case.users,
        "bills": case.bills,
        "bills_per_s": round(case.bills / seconds),
        "bills_per_cpu_s": round(case.bills / cpu_s),
        "cpu_us_per_bill": round(1e6 * cpu_s / case.bills),
    }


async def settled(admin: AIOKafkaAdminClient, reader: KafkaLogReader, worker: Process) -> None:
    """Return when the group has committed everything that it reads."""
    partitions = [TopicPartition(topic.name, number) for topic in READ for number in range(PARTITIONS)]
    while True:
        offsets = await admin.list_consumer_group_offsets(
            GROUP, partitions=[KafkaPartition(*one) for one in partitions]
        )
        committed = {TopicPartition(*one): max(0, offset.offset) for one, offset in offsets.items()}
        if all(committed.get(one, 0) >= end for one, end in (await reader.end_offsets(partitions)).items()):
            return
        if worker.returncode is not None:
            raise SystemExit("the worker ended")
        await asyncio.sleep(POLL_S)


async def minutes(reader: KafkaLogReader, case: Case) -> int:
    """How many turns the last rollups of the case's minutes count."""
    last: dict[bytes | None, int] = {}
    partitions = [TopicPartition(USAGE_ROLLUPS.name, number) for number in range(PARTITIONS)]
    ends = await reader.end_offsets(partitions)
    for partition, end in ends.items():
        for record in await reader.read_range(partition, 0, end) if end else ():
            rollup: UsageRolledUp = serde.decode(USAGE_ROLLUPS, record.value)
            if rollup.window == "minute" and rollup.user_id.startswith(f"{case.name}-"):
                last[record.key] = rollup.turns
    return sum(last.values())


def show(results: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table("bills come", "users", "bills", "bills per CPU second", "CPU a bill", title="windows, one process")
    for row in results:
        table.add_row(
            row["case"],
            f"{row['users']:,}",
            f"{row['bills']:,}",
            f"{row['bills_per_cpu_s']:,}",
            f"{row['cpu_us_per_bill']:,} us",
        )
    Console().print(table)


def main() -> None:
    """Start Kafka, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bills", type=int, default=20_000)
    parser.add_argument("--rate", type=int, default=240)
    parser.add_argument("--only", default="", help="a part of the names of the cases to run")
    options = parser.parse_args()
    busy = wait_for_quiet()
    bills = options.bills
    cases = [
        Case("backlog-many", users=5_000, bills=bills, rate=None),
        Case("backlog-few", users=50, bills=bills, rate=None),
        Case("live-many", users=5_000, bills=bills // 10, rate=options.rate),
        Case("live-few", users=50, bills=bills // 10, rate=options.rate),
    ]
    with fresh_stack(StackOptions(servers=("kafka",), processes=(), bootstrap=None)) as stack:
        os.environ.update(stack.environment())
        os.environ["TURNSTREAM_TOPICS__PARTITIONS"] = str(PARTITIONS)
        bench = Settings()
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        asyncio.run(create_topics(bench.kafka, plan_topics(PARTITIONS, bench.topics.partitions_tokens, 1)))
        results = [asyncio.run(measure(bench, case)) for case in cases if options.only in case.name]
    show(results)
    keep_if_quiet("windows", results, busy)


if __name__ == "__main__":
    main()
