"""How many turns a second auth, rate_limit, prompt and moderation carry together, in one process, on the real log.

    python bench/stateless_stages.py [--turns 30000]

All turns wait on ``chat.turns.submitted.v1`` before the process starts. Measured is from the first cleared turn to the
last, by the clock and by the CPU time of that process: turns per CPU second is what one core carries. Every record is
on the log with acks=all; limits, moderation and commits are on.
"""

import argparse
import asyncio
import os
import sys
import time
from asyncio.subprocess import DEVNULL
from typing import Any

from kept import keep_if_quiet, wait_for_quiet
from machine import cpu_seconds
from rich.console import Console
from rich.table import Table
from stacks import STORES, bench_stack

from producers.http.api_keys import key_hash, parse_api_key
from schemas import serde
from schemas.accounts import ApiKeyCredential
from schemas.content import Content
from schemas.events import Turn, TurnSubmitted
from schemas.ids import new_conversation_id, new_turn_id
from schemas.messages import Message, Role
from schemas.ports import Outgoing, TopicPartition
from schemas.topics import INFERENCE_REQUESTS, TURNS_SUBMITTED
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.settings import Settings

STAGES = "auth,rate_limit,prompt,moderation"
BATCH_RECORDS = 1_000
POLL_S = 0.02
SECONDS_MAX = 300
PROMPT = "Please explain in two sentences how a replicated log keeps its readers in the same order, with an example."


def submitted(credential: ApiKeyCredential) -> Outgoing:
    """One stateless turn, as the edge submits it."""
    now_ms = time.time_ns() // 1_000_000
    conversation_id = new_conversation_id(now_ms, os.urandom(10))
    turn_id = new_turn_id(now_ms, int.from_bytes(os.urandom(1)) % 16, os.urandom(8))
    event = TurnSubmitted(
        turn=Turn(
            turn_id=turn_id,
            conversation_id=conversation_id,
            starts_conversation=True,
            stored=False,
            model="turnstream-fast",
            submitted_at_ms=now_ms,
            deadline_ms=now_ms + 600_000,
        ),
        credential=credential,
        input=(Message(role=Role.USER, content=Content(PROMPT)),),
    )
    headers = serde.event_headers(TURNS_SUBMITTED, turn_id)
    return Outgoing(TURNS_SUBMITTED.name, conversation_id.encode(), serde.encode(event), headers)


async def measure(settings: Settings, key: str, turns: int) -> dict[str, float]:
    """Fill the log, run the stages over it, and stop them."""
    parsed = parse_api_key(key)
    if parsed is None:
        raise SystemExit("the stack gave no development key")
    credential = ApiKeyCredential(key_hash=key_hash(parsed, settings.pepper_bytes))
    async with KafkaProducer(settings.kafka) as producer, KafkaLogReader(settings.kafka) as reader:
        for _ in range(0, turns, BATCH_RECORDS):
            await producer.append([submitted(credential) for _ in range(BATCH_RECORDS)])
        command = (sys.executable, "-m", "turnstream", "run", "processors", "--only", STAGES)
        process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
        try:
            return await _watch(reader, settings, process.pid, turns)
        finally:
            process.terminate()
            await process.wait()


async def _watch(reader: KafkaLogReader, settings: Settings, pid: int, turns: int) -> dict[str, float]:
    count = settings.topics.partitions or INFERENCE_REQUESTS["fast"].partitions
    partitions = [TopicPartition(INFERENCE_REQUESTS["fast"].name, number) for number in range(count)]
    first: tuple[float, float, int] | None = None
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            done = sum((await reader.end_offsets(partitions)).values())
            now = (time.perf_counter(), cpu_seconds(pid), done)
            if first is None and done:
                first = now
            if first is not None and done >= turns:
                break
            await asyncio.sleep(POLL_S)
    seconds, cpu_s, cleared = (after - before for after, before in zip(now, first, strict=True))
    return {
        "turns": cleared,
        "turns_per_s": round(cleared / seconds),
        "turns_per_cpu_s": round(cleared / cpu_s),
        "cpu_us_per_turn": round(1e6 * cpu_s / cleared, 1),
    }


def main() -> None:
    """Start the servers, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=30_000)
    options = parser.parse_args()
    busy = wait_for_quiet()
    with bench_stack(servers=STORES, processes=()) as stack:
        os.environ.update(stack.environment())
        results: dict[str, Any] = asyncio.run(measure(Settings(), stack.record.key or "", options.turns))
    table = Table("turns", "turns/s", "turns per CPU second", "CPU a turn", title=f"{STAGES}, one process")
    table.add_row(
        f"{results['turns']:,}",
        f"{results['turns_per_s']:,}",
        f"{results['turns_per_cpu_s']:,}",
        f"{results['cpu_us_per_turn']} us",
    )
    Console().print(table)
    keep_if_quiet("stateless-stages", results, busy)


if __name__ == "__main__":
    main()
