"""``InferenceBackend`` over any OpenAI-compatible server: ``POST {url}/chat/completions`` as a stream.

https://platform.openai.com/docs/api-reference/chat/create; ``continue_final_message`` and ``add_generation_prompt`` are
vLLM's: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html.
"""

import asyncio
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Final

from consumers.inference.failures import NotServed, PrefixUnsupported
from consumers.inference.http_client import HttpClient, HttpResponse
from consumers.inference.http_connection import HttpFailed
from consumers.inference.openai_body import request_body
from consumers.inference.openai_chunks import ChunkReading
from consumers.inference.pool import PoolSettings
from schemas.errors import Malformed, Retryable
from schemas.events import InferenceRequested
from schemas.ports import Generated, Pile

READY_S_MAX: Final = 2.0
_TRY_AGAIN: Final = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)
_NOT_SERVED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})


class OpenAiBackend:
    """Generates with an upstream that speaks OpenAI's Chat Completions. ``close`` it at the end."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        key = settings.api_key
        self._client = HttpClient(
            settings.url,
            {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"},
            connect_s_max=settings.connect_s_max,
            silence_s_max=settings.silence_s_max,
            connections_max=settings.connections_max,
        )

    async def generate(
        self, request: InferenceRequested, prefix: str, pile: Pile | None = None
    ) -> AsyncGenerator[Generated, None]:
        """See ``InferenceBackend.generate``. Raises PrefixUnsupported if ``prefix`` cannot be continued there."""
        if prefix and not self._settings.continues_prefix:
            raise PrefixUnsupported("this upstream cannot continue an answer")
        body = request_body(request, prefix, self._settings.model)
        reading = ChunkReading(request.turn.generation.n, self._settings.message_bytes_max)
        try:
            async with self._client.request("POST", "/chat/completions", body) as response:
                _check_status(response.status)
                feed = _Feed(response, reading)
                if pile is not None:
                    pile.feed = feed
                    response.let_pile_up(pile.on_more)
                while not reading.over and await response.more():
                    for step in feed.take():
                        yield step
                # Usage comes in a chunk after the reasons. Some servers close without [DONE]: then that is the end.
                ends = reading.end()
                response.leave()
                for step in ends:
                    yield step
        except HttpFailed as error:
            raise Retryable(f"the upstream failed: {error}") from None

    async def ready(self) -> bool:
        """Whether the upstream lists its models."""
        try:
            async with asyncio.timeout(READY_S_MAX), self._client.request("GET", "/models") as response:
                return response.status == HTTPStatus.OK
        except (HttpFailed, TimeoutError):
            return False

    async def close(self) -> None:
        """Close the connections; streams in flight break off."""
        await self._client.close()


class _Feed:
    """A response as steps of its answer."""

    def __init__(self, response: HttpResponse, reading: ChunkReading) -> None:
        self._response = response
        self._reading = reading
        self.pause = response.pause

    @property
    def over(self) -> bool:
        return self._reading.over

    def take(self) -> list[Generated]:
        self._reading.feed(self._response.take())
        if self._reading.over:
            self._response.stop()
        return self._reading.take()


def _check_status(status: int) -> None:
    # The body stays unread: it may quote the prompt.
    if status in _TRY_AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Retryable(f"the upstream answered {status}")
    if status in _NOT_SERVED:
        raise NotServed(f"the upstream does not serve this model: {status}")
    if status != HTTPStatus.OK:
        raise Malformed(f"the upstream rejected the request with {status}")
