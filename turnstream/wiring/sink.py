"""The sink process: answers to Cassandra and the hot contexts."""

import asyncio
from contextlib import AsyncExitStack
from typing import Final

from consumers.cassandra_sink.stage import persist_answers, run_repayments
from consumers.loop import run_sink
from consumers.work import SinkWork
from schemas.topics import TOKENS
from turnstream.clocks import now_ms
from turnstream.log.haste import Haste
from turnstream.log.kafka_group_consumer import KafkaGroupConsumer
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.stores.active_turns import CassandraActiveTurns
from turnstream.stores.cassandra import open_session
from turnstream.wiring.loop_readiness import require_loop
from turnstream.wiring.process import Process
from turnstream.wiring.redis_client import open_redis
from turnstream.wiring.topics import require_all_topics
from turnstream.wiring.usage_rows import start_usage_rows

STAGE: Final = "cassandra_sink"


async def run_cassandra_sink(process: Process) -> None:
    """Store answers until asked to stop."""
    settings = process.settings
    await require_all_topics(settings)
    async with AsyncExitStack() as open_ports:
        producer = await open_ports.enter_async_context(KafkaProducer(settings.kafka))
        cql = await open_ports.enter_async_context(open_session(settings.cassandra))
        redis = await open_ports.enter_async_context(open_redis(settings.redis))
        member = KafkaGroupConsumer(settings.kafka, TOKENS.groups[0], (TOKENS.name,), haste=Haste.SOON)
        await open_ports.enter_async_context(member)
        log = await open_ports.enter_async_context(KafkaLogReader(settings.kafka))
        sink = persist_answers(
            cql=cql,
            redis=redis,
            active=CassandraActiveTurns(cql),
            log=log,
            producer=producer,
            metrics=process.metrics,
            settings=settings.sink,
            now_ms=now_ms,
        )
        work = SinkWork(
            stage=STAGE,
            source=TOKENS,
            consumer=member,
            producer=producer,
            metrics=process.metrics,
            sink=sink,
            settings=settings.loops.sink,
        )
        require_loop(process, STAGE, member)
        process.metrics.count("turnstream_unterminated_turns_total", 0, seen_by="sink")
        async with asyncio.TaskGroup() as tasks:
            await start_usage_rows(process, tasks, open_ports, cql, producer)
            tasks.create_task(run_repayments(sink, settings.sink, process.stop))
            tasks.create_task(run_sink(work, process.stop))
