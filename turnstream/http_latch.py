"""What uvicorn keeps for each connection and request in case somebody waits, without its memory until somebody does."""

import asyncio
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl


class Latch:
    """``asyncio.Event``, of which most are never waited for: a queue of waiters is made for the first one."""

    __slots__ = ("_event", "_is_set")

    def __init__(self, *, is_set: bool = False) -> None:
        self._is_set = is_set
        self._event: asyncio.Event | None = None

    def set(self) -> None:
        """Let all who wait go on."""
        self._is_set = True
        event, self._event = self._event, None
        if event is not None:
            event.set()

    def clear(self) -> None:
        """Let those who come wait."""
        self._is_set = False

    async def wait(self) -> None:
        """Go on at once if it is set, else when it is."""
        if self._is_set:
            return
        if self._event is None:
            self._event = asyncio.Event()
        await self._event.wait()


class LightFlowControl(FlowControl):
    """uvicorn's flow control with a ``Latch``."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._is_writable_event: Any = Latch(is_set=True)
