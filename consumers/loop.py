"""The one consume loop, in the three shapes that stages need.

All of them poll, decode, act and commit by hand; deliver at least once; turn ``Malformed`` into a dead letter and a
``Failed`` turn, ``Retryable`` into waiting, and let ``Fatal`` end the process. A stage's own code does none of this.
"""

import asyncio
from collections.abc import Coroutine

from consumers.batches import BatchLoop
from consumers.keyed import KeyedLoop
from consumers.sinks import SinkLoop
from consumers.work import BatchWork, KeyedWork, SinkWork
from schemas.errors import Fatal


async def run_batches(work: BatchWork, stop: asyncio.Event) -> None:
    """Run a stateless stage until ``stop``: every batch is processed, its emits appended in one, then committed.

    A Retryable (from the process or the append) gives the same batch again with backoff, while the partitions are
    paused and the membership is kept alive. Malformed outcomes, emits that are too large, and records on which the
    process crashes are dead-lettered; the others of their batch go on. Raises Fatal when the retry policy is
    exhausted.
    """
    await _watched(BatchLoop(work).run(stop), work.stage)


async def run_keyed(work: KeyedWork, stop: asyncio.Event) -> None:
    """Run a stage of long work until ``stop``: FIFO per key, up to ``in_flight_max`` keys at once.

    A record that stays Retryable beyond ``record_retry``, is Malformed or crashes is dead-lettered. Work on
    partitions that are taken away is cancelled. After ``stop``, work has ``drain_seconds_max`` to end. Raises Fatal.
    """
    await _watched(KeyedLoop(work).run(stop), work.stage)


async def run_sink(work: SinkWork, stop: asyncio.Event) -> None:
    """Run a sink until ``stop``: records are written in log order, and the sink's safe positions are committed.

    A Retryable gives the same batch again with backoff, paused. Raises Fatal when the retry policy is exhausted;
    whatever else the sink raises ends the process too, because a fold cannot leave out a record it cannot take.
    """
    await _watched(SinkLoop(work).run(stop), work.stage)


async def _watched(loop: Coroutine[None, None, None], stage: str) -> None:
    """Run ``loop``; raises Fatal when it ends by a cancellation that this task was not asked for.

    A library's stray CancelledError would else end the stage in silence, with the rest of its process alive.
    """
    # Not in a task group, which would wrap what the loop raises.
    running = asyncio.ensure_future(loop)
    try:
        await asyncio.wait((running,))
    except asyncio.CancelledError:
        running.cancel()
        await asyncio.wait((running,))
        raise
    if running.cancelled():
        raise Fatal(f"{stage}: the loop was cancelled by nobody that may")
    running.result()
