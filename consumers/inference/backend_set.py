"""One pool on several servers: answers go to the least busy that is well, and away from one that dies."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import structlog

from consumers.inference.pool import PoolSettings
from consumers.inference.server_health import ServerHealth, choose
from schemas.errors import Retryable
from schemas.events import InferenceRequested
from schemas.ports import Generated, InferenceBackend, Pile

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class _Server:
    name: str
    backend: InferenceBackend
    health: ServerHealth
    # The tasks that wait for its next piece, and those of them that are told to wait no longer.
    waiting: set[asyncio.Task[Any]] = field(default_factory=set)
    given_up: set[asyncio.Task[Any]] = field(default_factory=set)


class BackendSet:
    """An ``InferenceBackend`` over one backend per server of a pool.

    A request is never moved: it fails with Retryable, and whoever repeats it (with the text so far as its prefix)
    gets another server, if there is one. ``watch`` finds the servers that hang and those that came back.
    """

    def __init__(self, settings: PoolSettings, connect: Callable[[PoolSettings], InferenceBackend]) -> None:
        """``connect`` makes the backend of a pool with one server. Call it inside the running event loop."""
        self._settings = settings
        self._now_s = asyncio.get_running_loop().time
        self._servers = tuple(_Server(one.address, connect(one), ServerHealth(one)) for one in settings.servers)
        self._by_health = {server.health: server for server in self._servers}
        self._chosen = 0

    @property
    def servers(self) -> tuple[InferenceBackend, ...]:
        """The backend of each server, in the order of the setting."""
        return tuple(server.backend for server in self._servers)

    @property
    def in_flight(self) -> Mapping[str, int]:
        """Answers under way, by the server's address."""
        return {server.name: server.health.in_flight for server in self._servers}

    async def generate(
        self, request: InferenceRequested, prefix: str, pile: Pile | None = None
    ) -> AsyncGenerator[Generated, None]:
        """See ``InferenceBackend.generate``."""
        server = self._choose()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("answers are read in a task")
        try:
            choices_open = request.turn.generation.n
            if pile is not None:
                pile.server = server.name
                self._listen(server, pile)
            async with aclosing(server.backend.generate(request, prefix, pile)) as pieces:
                while choices_open:
                    piece = await self._next(server, task, pieces)
                    server.health.hear(self._now_s())
                    if piece.finish_reason is not None:
                        server.health.succeed()
                        choices_open -= 1
                    yield piece
        except Retryable:
            server.health.fail(self._now_s())
            _log.warning("server_failed", server=server.name, failures=server.health.failures)
            raise
        finally:
            server.health.end()

    async def watch(self) -> None:
        """Ask the servers that are silent or failed whether they are alive, until cancelled."""
        while True:
            suspects = [server for server in self._servers if server.health.wants_probe(self._now_s())]
            async with asyncio.TaskGroup() as probes:
                for server in suspects:
                    probes.create_task(self._probe(server))
            await asyncio.sleep(self._settings.probe_interval_s)

    async def ready(self) -> bool:
        """Whether any server would take a request now."""
        return any(await asyncio.gather(*(server.backend.ready() for server in self._servers)))

    async def close(self) -> None:
        """Close the connections to all servers."""
        for server in self._servers:
            await server.backend.close()

    def _choose(self) -> _Server:
        self._chosen += 1
        health = choose([server.health for server in self._servers], self._now_s())
        health.begin(self._now_s(), self._chosen)
        return self._by_health[health]

    def _listen(self, server: _Server, pile: Pile) -> None:
        """When there is more in ``pile``, ``server`` was heard."""
        tell = pile.on_more

        def on_more() -> None:
            server.health.hear(self._now_s())
            tell()

        pile.on_more = on_more

    async def _next(
        self, server: _Server, task: asyncio.Task[Any], pieces: AsyncGenerator[Generated, None]
    ) -> Generated:
        """The next piece. Raises Retryable also when there is none, or the server is found dead meanwhile."""
        # For every token: a timeout's scope would cost more than all else here.
        server.waiting.add(task)
        try:
            return await anext(pieces)
        except asyncio.CancelledError:
            if task not in server.given_up or task.uncancel() > 0:
                raise
            raise Retryable("the server does not answer any more") from None
        except StopAsyncIteration:
            raise Retryable("the server broke off without a finish reason") from None
        finally:
            server.waiting.discard(task)
            server.given_up.discard(task)

    async def _probe(self, server: _Server) -> None:
        answered = await server.backend.ready()
        if server.health.probed(self._now_s(), answered=answered) and server.waiting:
            _log.warning("server_silent", server=server.name, answers_moved=len(server.waiting))
            for task in server.waiting - server.given_up:
                server.given_up.add(task)
                task.cancel()
