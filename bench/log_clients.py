"""What it costs to append to Kafka and to hear of it: our clients on the wire, and aiokafka's, in turn.

    python bench/log_clients.py [--records 400] [--rounds 3]

One record at a time. The figures are this process's CPU time for both, the time until an append is acknowledged, and
the time until a reader has the record when nothing was under way for 5 ms before.
"""

import argparse
import asyncio
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition as AiokafkaPartition
from kept import keep_if_quiet, wait_for_quiet
from least import least_of_rounds
from rich.console import Console
from rich.table import Table
from stacks import fresh_stack

from schemas.ports import Outgoing, TopicPartition
from schemas.topics import TopicPlan
from turnstream.local_stack.plan import StackOptions
from turnstream.log.kafka_log_tail import KafkaLogTail
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.log.kafka_topics import create_topics
from turnstream.log.settings import KafkaSettings

KEY, VALUE = b"turn", b"x" * 300
PAUSE_S = 0.005


class Clients(NamedTuple):
    """Append one record, and wait for the next one."""

    append: Callable[[], Awaitable[object]]
    hear: Callable[[], Awaitable[object]]


@asynccontextmanager
async def ours(settings: KafkaSettings, topic: str) -> AsyncIterator[Clients]:
    """Those of every process of ours."""
    async with KafkaProducer(settings) as producer, KafkaLogTail(settings, [TopicPartition(topic, 0)]) as tail:
        record = Outgoing(topic, KEY, VALUE, (), 0)
        yield Clients(lambda: producer.append([record]), lambda: tail.poll(1, 10))


@asynccontextmanager
async def aiokafka(settings: KafkaSettings, topic: str) -> AsyncIterator[Clients]:
    """Its producer and consumer, with the same promises."""
    partition = AiokafkaPartition(topic, 0)
    async with AsyncExitStack() as opened:
        producer = await opened.enter_async_context(
            AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers, acks="all", enable_idempotence=True)
        )
        consumer = await opened.enter_async_context(
            AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers, enable_auto_commit=False)
        )
        consumer.assign([partition])
        await consumer.seek_to_end(partition)
        yield Clients(lambda: producer.send_and_wait(topic, VALUE, KEY, 0), consumer.getone)


async def append_each(clients: Clients, records: int) -> dict[str, float]:
    """CPU and time of an append."""
    times: list[float] = []
    cpu_s = time.process_time()
    for _ in range(records):
        before = time.perf_counter()
        await clients.append()
        times.append(time.perf_counter() - before)
        await clients.hear()
    return {"cpu_us": 1e6 * (time.process_time() - cpu_s) / records, "ack_ms": 1e3 * statistics.median(times)}


async def hop_each(clients: Clients, records: int) -> float:
    """Milliseconds from an append until its reader has the record, after a pause."""
    times: list[float] = []
    for _ in range(records):
        hearing = asyncio.ensure_future(clients.hear())
        await asyncio.sleep(PAUSE_S)
        before = time.perf_counter()
        appending = asyncio.ensure_future(clients.append())
        await hearing
        times.append(time.perf_counter() - before)
        await appending
    return 1e3 * statistics.median(times)


Side = Callable[[KafkaSettings, str], AbstractAsyncContextManager[Clients]]
SIDES: dict[str, Side] = {"ours": ours, "aiokafka": aiokafka}


async def measure_one(side: Side, settings: KafkaSettings, records: int) -> dict[str, float]:
    """On a topic of its own."""
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    await create_topics(settings, [TopicPlan(topic, 1, 1, ())])
    async with side(settings, topic) as clients:
        await append_each(clients, records // 4)
        return {**await append_each(clients, records), "hop_ms": await hop_each(clients, records)}


def measure(records: int, rounds: int) -> dict[str, dict[str, float]]:
    """All sides, on one broker."""
    with fresh_stack(StackOptions(servers=("kafka",), processes=(), bootstrap=None)) as stack:
        settings = KafkaSettings(bootstrap_servers=stack.endpoints.kafka)
        return least_of_rounds(
            rounds, {name: partial(measure_one, side, settings, records) for name, side in SIDES.items()}
        )


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    busy = wait_for_quiet()
    results = measure(options.records, options.rounds)
    table = Table(
        "clients", "CPU of a record", "acknowledged", "heard after a pause", title="Append and hear, one by one"
    )
    for name, row in results.items():
        table.add_row(name, f"{row['cpu_us']:.0f} us", f"{row['ack_ms']:.2f} ms", f"{row['hop_ms']:.2f} ms")
    Console().print(table)
    keep_if_quiet("log-clients", results, busy)


if __name__ == "__main__":
    main()
