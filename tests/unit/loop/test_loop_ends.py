"""A loop ends by its stop, by an error, or with its task; never for itself alone and in silence."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import pytest

from consumers.loop import run_batches, run_keyed, run_sink
from schemas.errors import Fatal, Retryable
from schemas.ports import Outcome, Received, Record, TopicPartition
from tests.unit.loop.conftest import Bench
from tests.unit.loop.test_sinks import Sink


async def no_outcomes(batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
    return [()] * len(batch)


async def no_work(received: Received[Any]) -> None:
    del received


async def _batches(bench: Bench) -> None:
    await run_batches(bench.batch_work(no_outcomes), bench.stop)


async def _keyed(bench: Bench) -> None:
    await run_keyed(bench.keyed_work(no_work), bench.stop)


async def _sink(bench: Bench) -> None:
    await run_sink(bench.sink_work(Sink()), bench.stop)


Run = Callable[[Bench], Coroutine[Any, Any, None]]
EVERY_SHAPE = pytest.mark.parametrize("run", [_batches, _keyed, _sink])


@EVERY_SHAPE
async def test_a_cancellation_that_nobody_asked_for_is_fatal(
    bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def poll(_records_max: int, _wait_s: float) -> Sequence[Record]:
        raise asyncio.CancelledError

    monkeypatch.setattr(bench.consumer, "poll", poll)
    with pytest.raises(Fatal, match="test: the loop was cancelled"):
        await run(bench)


@EVERY_SHAPE
async def test_a_cancelled_task_takes_its_loop_along(bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    polling, ended = asyncio.Event(), asyncio.Event()

    async def poll(_records_max: int, _wait_s: float) -> Sequence[Record]:
        polling.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ()

    monkeypatch.setattr(bench.consumer, "poll", poll)
    task = asyncio.create_task(run(bench))
    await polling.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert ended.is_set()


async def test_a_member_that_cannot_commit_for_too_long_ends_its_process(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It may work on what the group has given to another long ago, and would do so for ever.
    async def refuse(_positions: Mapping[TopicPartition, int]) -> None:
        raise Retryable("the group does not know this member")

    monkeypatch.setattr(bench.consumer, "commit", refuse)
    bench.put("key")
    work = bench.batch_work(no_outcomes, commit_interval_s=0.001, uncommitted_seconds_max=0.02)
    with pytest.raises(Fatal, match="test: nothing could be committed"):
        await run_batches(work, bench.stop)
