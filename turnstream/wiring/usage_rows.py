"""The writer of usage rows beside the sink of answers: one more group in the same process."""

import asyncio
from contextlib import AsyncExitStack

from consumers.loop import run_batches
from consumers.usage_rows.stage import STAGE, StoreUsage
from consumers.work import BatchWork
from schemas.ports import Producer, WritingCql
from schemas.topics import USAGE_EVENTS
from turnstream.log.haste import Haste
from turnstream.log.kafka_group_consumer import KafkaGroupConsumer
from turnstream.stores.usage_rows import CassandraUsageRows
from turnstream.wiring.loop_readiness import require_loop
from turnstream.wiring.process import Process


async def start_usage_rows(
    process: Process, tasks: asyncio.TaskGroup, open_ports: AsyncExitStack, cql: WritingCql, producer: Producer
) -> None:
    """Begin to store usage in ``tasks``; the membership ends with ``open_ports``."""
    settings = process.settings
    # Nobody waits for a bill.
    member = KafkaGroupConsumer(settings.kafka, f"turnstream.{STAGE}", (USAGE_EVENTS.name,), haste=Haste.LAZY)
    await open_ports.enter_async_context(member)
    require_loop(process, STAGE, member)
    work = BatchWork(
        stage=STAGE,
        source=USAGE_EVENTS,
        consumer=member,
        producer=producer,
        metrics=process.metrics,
        process=StoreUsage(CassandraUsageRows(cql)),
        settings=settings.loops.sink,
    )
    tasks.create_task(run_batches(work, process.stop))
