"""Tokens a second that one core of the inference process carries, from Triton by gRPC and from an OpenAI upstream.

    python bench/inference_alone.py [--turns 300] [--backends openai,triton] [--pace paced]

Requests wait for nobody but the model: they are put on ``inference.requests.fast.v1``, and the process answers them
onto the tokens topic with acks=all, fences, output policy and bills. Its CPU from the first request to the last bill,
by token, is what one core carries; beside it stands the load client that reads the same answers from the model server.
"""

import argparse
import asyncio
import os
import random
import sys
import time
from asyncio.subprocess import DEVNULL
from typing import Any, Final

from kept import keep_if_quiet, wait_for_quiet
from machine import tree_cpu_seconds
from requests_for import inference_request
from rich.console import Console
from rich.table import Table
from sides import Load, Pooled, Side, fake_upstream, run_load
from stacks import STORES, bench_stack
from words import new_tag, question

from schemas import serde
from schemas.ports import LogReader, Outgoing, Producer, TopicPartition
from schemas.topics import INFERENCE_REQUESTS, USAGE_EVENTS
from turnstream.local_stack.stack import Stack
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.settings import Settings

TOPIC: Final = INFERENCE_REQUESTS["fast"]
TOKENS: Final = 60
FLAT_TOKENS: Final = 600
FLAT_STREAMS: Final = 32
WARM_TURNS: Final = 8
POLL_S: Final = 0.02
SECONDS_MAX: Final = 300
TOKEN_PARTITIONS: Final = 16
LOADS: Final = {
    "paced": {"tokens": TOKENS, "first_ms": 50, "gap_ms": 20},
    "flat out": {"tokens": FLAT_TOKENS, "first_ms": 0, "gap_ms": 0},
}


def request(dice: random.Random, pace: dict[str, int]) -> Outgoing:
    """One request as moderation lets it pass."""
    event = inference_request(question(new_tag(dice), **pace), dice.randrange(TOKEN_PARTITIONS))
    headers = serde.event_headers(TOPIC, event.turn.turn_id)
    return Outgoing(TOPIC.name, event.turn.conversation_id.encode(), serde.encode(event), headers)


async def answered(reader: LogReader, settings: Settings) -> int:
    """How many bills are on the log."""
    count = settings.topics.partitions or USAGE_EVENTS.partitions
    partitions = [TopicPartition(USAGE_EVENTS.name, number) for number in range(count)]
    return sum((await reader.end_offsets(partitions)).values())


async def run_turns(
    producer: Producer, reader: LogReader, settings: Settings, turns: int, pace: dict[str, int]
) -> None:
    """Put so many requests on the log, and return when all are billed. Raises TimeoutError."""
    dice = random.Random(turns)
    goal = await answered(reader, settings) + turns
    await producer.append([request(dice, pace) for _ in range(turns)])
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            if await answered(reader, settings) >= goal:
                return
            await asyncio.sleep(POLL_S)


async def measure(settings: Settings, turns: int, paces: list[str]) -> dict[str, Any]:
    """CPU a token of a process that runs for this alone."""
    found: dict[str, Any] = {}
    async with KafkaProducer(settings.kafka) as producer, KafkaLogReader(settings.kafka) as reader:
        command = (sys.executable, "-m", "turnstream", "run", "inference")
        process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
        try:
            for name in paces:
                pace = LOADS[name]
                await run_turns(producer, reader, settings, WARM_TURNS, pace)
                cpu_s, began_s = tree_cpu_seconds(process.pid), time.perf_counter()
                await run_turns(producer, reader, settings, turns, pace)
                seconds, spent_s = time.perf_counter() - began_s, tree_cpu_seconds(process.pid) - cpu_s
                tokens = turns * pace["tokens"]
                found[name] = {
                    "turns": turns,
                    "tokens_per_s": round(tokens / seconds),
                    "cpu_us_per_token": round(1e6 * spent_s / tokens, 1),
                    "tokens_per_cpu_s": round(tokens / spent_s),
                }
        finally:
            process.terminate()
            await process.wait()
    return found


def direct(stack: Stack, upstream: str | None, streams: int, paces: list[str]) -> dict[str, Any]:
    """The model server read by the load client: how fast it is, and what reading alone costs."""
    side = Side(
        "direct", upstream or "", triton="" if upstream else stack.endpoints.triton_grpc or "", same=not upstream
    )
    rows: dict[str, Any] = {}
    for name in paces:
        pooled = Pooled()
        clients = FLAT_STREAMS if name == "flat out" else streams
        pooled.add(run_load(side, Load(clients, **LOADS[name], seconds=4, warm_up=2)))
        figures = pooled.figures()
        rows[name] = {
            "tokens_per_s": figures["tokens_per_s"],
            "cpu_us_per_token": figures["cpu_us_per_token"]["client"],
        }
    return rows


def one_backend(upstream: str | None, turns: int, paces: list[str]) -> dict[str, Any]:
    """A stack without processes of ours, and the process that is measured."""
    servers = STORES if upstream else (*STORES, "triton")
    with bench_stack(upstream, servers=servers, processes=()) as stack:
        os.environ.update(stack.environment())
        beside = direct(stack, upstream, min(turns, 50), paces)
        found = asyncio.run(measure(Settings(), turns, paces))
    return {name: {**found[name], "direct": beside[name]} for name in paces}


def main() -> None:
    """Measure each backend in a stack of its own, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=300, help="that are answered at once")
    parser.add_argument("--backends", default="openai,triton")
    parser.add_argument("--paces", default=",".join(LOADS))
    options = parser.parse_args()
    busy = wait_for_quiet()
    paces = options.paces.split(",")
    results: dict[str, Any] = {}
    for backend in options.backends.split(","):
        if backend == "openai":
            with fake_upstream() as (upstream, _):
                results[backend] = one_backend(upstream, options.turns, paces)
        else:
            results[backend] = one_backend(None, options.turns, paces)
    show(results)
    keep_if_quiet("inference-alone", results, busy)


def show(results: dict[str, Any]) -> None:
    """One row per backend and pace."""
    columns = ("backend", "pace", "tokens/s", "CPU a token", "tokens/s a core", "tokens/s direct", "reading alone")
    table = Table(*columns, title="The inference process alone")
    for backend, rows in results.items():
        for pace, row in rows.items():
            beside = row["direct"]
            table.add_row(
                backend,
                pace,
                f"{row['tokens_per_s']:,}",
                f"{row['cpu_us_per_token']} us",
                f"{row['tokens_per_cpu_s']:,}",
                f"{beside['tokens_per_s']:,}",
                f"{beside['cpu_us_per_token']} us a token",
            )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
