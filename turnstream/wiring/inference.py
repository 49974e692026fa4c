"""The inference process: every pool's requests, its backend, one owner id."""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Final

import structlog

from consumers.inference.cancel_listener import CancelListener
from consumers.inference.stage import InferTurn, make_backend
from consumers.loop import run_keyed
from consumers.work import KeyedSettings, KeyedWork
from schemas.bills import Billing
from schemas.errors import Fatal
from schemas.ports import TopicPartition
from schemas.topics import INFERENCE_REQUESTS, TURNS_CANCELLED
from stream_processors.moderation.toml_rules import load_policy
from turnstream.clocks import now_ms
from turnstream.log.kafka_group_consumer import KafkaGroupConsumer
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.log.kafka_log_tail import KafkaLogTail
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.settings import Settings
from turnstream.wiring.loop_readiness import require_loop
from turnstream.wiring.process import Process
from turnstream.wiring.topics import require_all_topics

STAGE: Final = "inference"

_log = structlog.get_logger(__name__)


def choose_pools(settings: Settings, names: Sequence[str]) -> tuple[str, ...]:
    """The pools with these names, or all that are configured. Raises Fatal for one that is not."""
    unknown = sorted(set(names) - set(settings.pools))
    if unknown:
        raise Fatal(f"no such pool: {', '.join(unknown)}; there are {', '.join(settings.pools)}")
    return tuple(pool for pool in settings.pools if not names or pool in names)


def loop_settings(settings: Settings, pool: str) -> KeyedSettings:
    """The limits of the loop of ``pool``: those of all, with the pool's own number of turns at once if it has one."""
    loop, at_once = settings.loops.inference, settings.pools[pool].turns_in_flight_max
    if at_once is None:
        return loop
    return loop.model_copy(update={"hold": loop.hold.model_copy(update={"in_flight_max": at_once})})


async def run_inference(process: Process, pools: Sequence[str]) -> None:
    """Answer the turns of ``pools`` until asked to stop."""
    settings = process.settings
    await require_all_topics(settings)
    async with AsyncExitStack() as open_ports:
        producer = await open_ports.enter_async_context(KafkaProducer(settings.kafka))
        reader = await open_ports.enter_async_context(KafkaLogReader(settings.kafka))
        hints = await open_ports.enter_async_context(
            KafkaLogTail(settings.kafka, [TopicPartition(TURNS_CANCELLED.name, 0)])
        )
        members = {
            pool: KafkaGroupConsumer(
                settings.kafka, INFERENCE_REQUESTS[pool].groups[0], (INFERENCE_REQUESTS[pool].name,)
            )
            for pool in pools
        }
        await asyncio.gather(*(open_ports.enter_async_context(member) for member in members.values()))
        listener = CancelListener(hints)
        owner_id = secrets.token_hex(8)
        policy = load_policy(settings.moderation)
        works: list[KeyedWork] = []
        watches: list[Callable[[], Coroutine[None, None, None]]] = [listener.run]
        for pool, member in members.items():
            backend = make_backend(settings.pools[pool])
            open_ports.push_async_callback(backend.close)
            watches.append(backend.watch)
            infer = InferTurn(
                producer=producer,
                reader=reader,
                backend=backend,
                policy=policy,
                metrics=process.metrics,
                cancels=listener,
                now_ms=now_ms,
                owner_id=owner_id,
                settings=settings.inference,
                billing=Billing.of(settings.models, settings.region),
            )
            works.append(_work(process, pool, member, producer, infer))
            require_loop(process, f"{STAGE}.{pool}", member)
        _log.info("inference_ready", owner=owner_id, pools=list(pools))
        await _run(process, works, watches)


async def _run(
    process: Process, works: Sequence[KeyedWork], watches: Sequence[Callable[[], Coroutine[None, None, None]]]
) -> None:
    async with asyncio.TaskGroup() as tasks:
        watching = [tasks.create_task(watch()) for watch in watches]
        async with asyncio.TaskGroup() as loops:
            for work in works:
                loops.create_task(run_keyed(work, process.stop))
        for watch in watching:
            watch.cancel()


def _work(
    process: Process, pool: str, member: KafkaGroupConsumer, producer: KafkaProducer, infer: InferTurn
) -> KeyedWork:
    return KeyedWork(
        stage=f"{STAGE}.{pool}",
        source=INFERENCE_REQUESTS[pool],
        consumer=member,
        producer=producer,
        metrics=process.metrics,
        process=infer,
        settings=loop_settings(process.settings, pool),
        region=process.settings.region,
    )
