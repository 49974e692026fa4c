"""Heartbeats, which clients are meant not to see."""

from collections.abc import AsyncIterator

import httpx2


class PingCounter(httpx2.AsyncBaseTransport):
    """A transport that counts the heartbeats on the wire below an SDK."""

    def __init__(self) -> None:
        self.pings = 0
        self._transport = httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Pass the request on and every byte of its answer back."""
        response = await self._transport.handle_async_request(request)
        return httpx2.Response(response.status_code, headers=response.headers, content=self._counted(response))

    async def _counted(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        async for piece in response.aiter_raw():
            self.pings += piece.count(b": ping")
            yield piece
        await response.aclose()

    async def aclose(self) -> None:
        """Close the real transport."""
        await self._transport.aclose()
