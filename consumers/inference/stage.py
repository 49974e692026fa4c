"""The inference stage: one turn at a time per conversation, many conversations at once."""

from collections.abc import Callable
from itertools import count

import structlog

from consumers.inference.answer import route_of
from consumers.inference.backend_set import BackendSet
from consumers.inference.breaker import PoolBreaker
from consumers.inference.cancel_listener import CancelListener
from consumers.inference.core import InferenceSettings
from consumers.inference.openai_backend import OpenAiBackend
from consumers.inference.pool import BackendKind, PoolSettings
from consumers.inference.turn_log import TurnLog
from consumers.inference.turn_ports import TurnPorts
from consumers.inference.turn_run import TurnRun
from schemas import headers
from schemas.bills import Billing
from schemas.events import InferenceRequested
from schemas.ports import InferenceBackend, LogReader, Metrics, OutputPolicy, PostingProducer, Received

_log = structlog.get_logger()


class InferTurn:
    """A ``KeyedProcess`` over ``inference.requests.<pool>.v1``, of one pool.

    A call returns when the turn's terminal and bill are on the log, or the turn is handed over to another pool.
    ``owner_id`` must be unique to this start of this process. When cancelled (partition taken away, shutdown) it
    closes the generation and writes nothing: another owner continues. Raises Retryable when the log fails.
    """

    def __init__(
        self,
        *,
        producer: PostingProducer,
        reader: LogReader,
        backend: InferenceBackend,
        policy: OutputPolicy,
        metrics: Metrics,
        cancels: CancelListener,
        now_ms: Callable[[], int],
        owner_id: str,
        settings: InferenceSettings,
        billing: Billing | None = None,
    ) -> None:
        breaker = PoolBreaker(settings.breaker_failures, settings.breaker_open_ms / 1000)
        self._ports = TurnPorts(
            backend, policy, metrics, now_ms, lambda: self._in_flight, breaker, settings, billing or Billing()
        )
        self._in_flight = 0
        self._producer = producer
        self._reader = reader
        self._cancels = cancels
        self._owner_id = owner_id
        self._runs = count()

    async def __call__(self, received: Received[InferenceRequested]) -> None:
        """Answer the turn, or find that it is answered. Raises Retryable."""
        request = received.event
        if headers.is_replayed(received.record.headers):
            # A replayed turn was answered and billed in its day; the replay ends before the GPU.
            _log.info("replayed_turn_skipped", turn_id=request.turn.turn_id)
            return
        log = TurnLog(
            producer=self._producer,
            reader=self._reader,
            turn=request.turn,
            owner=f"{self._owner_id}.{next(self._runs)}",
            route=route_of(request),
            traceparent=received.traceparent,
            settings=self._ports.settings,
            now_ms=self._ports.now_ms,
        )
        run = TurnRun(self._ports, request, log)
        self._count(1, request.pool)
        self._cancels.watch(request.turn.turn_id, run.on_hint)
        try:
            await run.run()
        finally:
            self._cancels.unwatch(request.turn.turn_id, run.on_hint)
            self._count(-1, request.pool)

    def _count(self, turns: int, pool: str) -> None:
        self._in_flight += turns
        self._ports.metrics.gauge("turnstream_turns_in_flight", self._in_flight, pool=pool)


def make_backend(settings: PoolSettings) -> BackendSet:
    """The servers that a pool names. Call it inside the running event loop; run ``watch()``, ``close()`` at the end."""
    return BackendSet(settings, connect_server)


def connect_server(settings: PoolSettings) -> InferenceBackend:
    """The backend of a pool with one server. Call it inside the running event loop."""
    match settings.backend:
        case BackendKind.TRITON:
            # A process with OpenAI pools alone runs without the tritonclient extra.
            from consumers.inference.triton_backend import TritonBackend  # noqa: PLC0415

            return TritonBackend(settings)
        case BackendKind.OPENAI:
            return OpenAiBackend(settings)
