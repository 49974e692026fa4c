"""The usage sink process: usage events to Parquet files."""

import asyncio
import time
from contextlib import AsyncExitStack

from consumers.loop import run_sink
from consumers.usage_sink.core import STAGE
from consumers.usage_sink.stage import WriteUsage, open_lake, run_rolls
from consumers.work import SinkWork
from schemas.topics import USAGE_EVENTS
from turnstream.log.haste import Haste
from turnstream.log.kafka_group_consumer import KafkaGroupConsumer
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.wiring.loop_readiness import require_loop
from turnstream.wiring.process import Process
from turnstream.wiring.topics import require_all_topics


async def run_usage_sink(process: Process) -> None:
    """Write usage files until asked to stop. Raises Fatal when there is no place for them."""
    settings, metrics = process.settings, process.metrics
    lake = open_lake(settings.usage_sink)
    await lake.prepare()
    await require_all_topics(settings)
    async with AsyncExitStack() as open_ports:
        # For dead letters alone.
        producer = await open_ports.enter_async_context(KafkaProducer(settings.kafka))
        member = KafkaGroupConsumer(settings.kafka, f"turnstream.{STAGE}", (USAGE_EVENTS.name,), haste=Haste.LAZY)
        await open_ports.enter_async_context(member)
        require_loop(process, STAGE, member)
        sink = WriteUsage(lake, settings.usage_sink, metrics, time.monotonic)
        work = SinkWork(
            stage=STAGE,
            source=USAGE_EVENTS,
            consumer=member,
            producer=producer,
            metrics=metrics,
            sink=sink,
            settings=settings.loops.sink,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_rolls(sink, settings.usage_sink, metrics, process.stop))
            tasks.create_task(run_sink(work, process.stop))
