"""Tasks that live as long as an adapter, without changing what the adapter's user raises."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Background:
    """A task group over the life of an object: ``open``, start tasks, ``close``.

    A task that fails cancels the user, as in any task group, and ``close`` raises the failure. An error of the user
    is never wrapped into an exception group, because the group does not see it.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Tie the tasks to the calling task."""
        await self._group.__aenter__()

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run ``work`` until it ends; ``close`` cancels it."""
        task = self._group.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def start_bounded(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` that ends by itself within its own limits; ``close`` waits for it."""
        self._group.create_task(work)

    async def close(self) -> None:
        """End everything and wait for it. Raises an ExceptionGroup of what failed by itself."""
        for task in self._running:
            task.cancel()
        await self._group.__aexit__(None, None, None)
