"""``InferenceBackend`` over Triton's bidirectional gRPC stream, one call per generation.

It drives tritonclient's generated stub on a grpc.aio channel directly: tritonclient's own ``stream_infer`` cannot
ask for the empty final response, and one string per token needs no numpy.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from consumers.inference import triton_requests
from consumers.inference.pool import PoolSettings
from consumers.inference.side_by_side import side_by_side
from consumers.inference.triton_reading import TritonReading
from schemas.errors import Malformed, Retryable
from schemas.events import InferenceRequested
from schemas.ports import Generated, Pile

DEFAULT_MODEL: Final = "ensemble"
# Rare on purpose: a server takes more than two pings without data within five minutes for an attack and hangs up
# (gRPC, keepalive.md), in the middle of a long prompt. `BackendSet` finds hung servers sooner, by asking `ready`.
KEEPALIVE_MS: Final = 300_000
KEEPALIVE_TIMEOUT_MS: Final = 5_000
READY_S_MAX: Final = 2.0
RECONNECT_MS_MIN: Final = 100
RECONNECT_MS_MAX: Final = 1_000
_REJECTED: Final = frozenset(
    {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.UNIMPLEMENTED}
)


class TritonBackend:
    """Generates with a decoupled model whose tensors are those of tensorrtllm_backend.

    Make it inside the running event loop; ``close`` it at the end.
    """

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._model = settings.model or DEFAULT_MODEL
        self._channel = grpc.aio.insecure_channel(settings.url, options=_channel_options(settings))
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def generate(
        self, request: InferenceRequested, prefix: str, _pile: Pile | None = None
    ) -> AsyncGenerator[Generated, None]:
        """See ``InferenceBackend.generate``. One token per response, as TensorRT-LLM streams; one call per choice."""
        count = request.turn.generation.n
        if count == 1:
            answer = self._choice(request, prefix, 0)
        else:
            answer = side_by_side([self._choice(request, prefix, choice) for choice in range(count)])
        async with aclosing(answer):
            async for piece in answer:
                yield piece

    async def _choice(self, request: InferenceRequested, prefix: str, choice: int) -> AsyncGenerator[Generated, None]:
        message = triton_requests.infer_request(self._model, request, prefix, self._settings.template, choice)
        reading = TritonReading(request, prefix, self._settings.template, choice)
        call = self._stub.ModelStreamInfer(_once(message))
        final = False
        try:
            while not final and not reading.over:
                response = await self._next(call)
                text = None if response is None else triton_requests.response_text(response)
                final = response is None or triton_requests.is_final(response)
                if text is not None:
                    yield reading.take(text, triton_requests.response_logprob(response))
            yield reading.end()
        finally:
            # A call that is over takes no notice; any other is cancelled on the server.
            call.cancel()

    async def ready(self) -> bool:
        """Whether the server answers and the model is loaded."""
        question = service_pb2.ModelReadyRequest(name=self._model)
        try:
            answer = await self._stub.ModelReady(question, timeout=READY_S_MAX)
        except grpc.RpcError:
            return False
        return bool(answer.ready)

    async def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        await self._channel.close()

    async def _next(self, call: Any) -> Any:
        """The next ``ModelInferResponse``; None at the end of the stream. Raises Retryable, Malformed."""
        try:
            async with asyncio.timeout(self._settings.silence_s_max):
                message = await call.read()
        except TimeoutError:
            raise Retryable("triton sent nothing within the allowed silence") from None
        except grpc.RpcError as error:
            raise _translated(error.code()) from None
        except asyncio.CancelledError:
            if _is_being_cancelled():
                raise
            # grpc.aio raises CancelledError too when the call itself was cancelled, by the server or the channel.
            raise Retryable("the call to triton was cancelled") from None
        if message == grpc.aio.EOF:
            return None
        if message.error_message:
            raise _rejected_or_not(message.error_message)
        return message.infer_response


def _channel_options(settings: PoolSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", settings.message_bytes_max),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS_MIN),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MS_MAX),
        # Triton hands out one model's streams on as many connections as ask: do not share with other pools.
        ("grpc.use_local_subchannel_pool", 1),
    ]


async def _once(message: Any) -> AsyncGenerator[Any, None]:
    yield message


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _translated(code: Any) -> Retryable | Malformed:
    # Details stay out: a server may quote the prompt in them.
    if code in _REJECTED:
        return Malformed(f"triton rejected the request: {code.name}")
    return Retryable(f"triton failed: {code.name}")


def _rejected_or_not(message: str) -> Retryable | Malformed:
    if triton_requests.is_rejection(message):
        return Malformed("triton rejected the request")
    return Retryable("triton failed inside the stream")
