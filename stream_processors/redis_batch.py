"""Batches of Redis commands and Lua scripts: one round trip each, and errors in the loop's language."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from redis.asyncio import Connection, Redis
from redis.exceptions import ConnectionError as ConnectionFailed
from redis.exceptions import NoScriptError, RedisError, ResponseError

from schemas.errors import Retryable

Command = Sequence[str | int | bytes]


@dataclass(frozen=True)
class Script:
    """A Lua script, known to the server by the hash of its text."""

    text: str

    @cached_property
    def sha(self) -> str:
        """What ``EVALSHA`` wants: SHA-1 of the text, in hex."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class RedisLine:
    """One connection of ``redis``, kept: to take one from the pool for each batch would cost more than the batch.

    One batch is on its way at a time, for ``seconds_max`` at most. One that is cut off or fails closes the connection
    (redis-py does so since 4.5.5; a test holds it), so that no reply waits in it for the next, which opens it again.
    """

    def __init__(self, redis: Redis, seconds_max: float) -> None:
        self._pool = redis.connection_pool
        self._seconds_max = seconds_max
        self._connection: Connection | None = None
        self._free = asyncio.Lock()

    async def send(self, commands: Sequence[Command]) -> Sequence[Any]:
        """The replies to ``commands``, in order, from one round trip. Raises Retryable when any of them failed.

        They must be idempotent: on a connection that the server closed meanwhile they are sent twice.
        """
        return _sound(await self._round_trip(commands))

    async def evaluate(self, script: Script, key_count: int, calls: Sequence[Command]) -> Sequence[Any]:
        """The replies of ``script`` to ``calls`` (``key_count`` keys, then arguments), in order, from one round trip.

        A server that does not know the script (restarted, failed over) is told it once and asked again. As ``send``.
        """
        commands: list[Command] = [("EVALSHA", script.sha, key_count, *call) for call in calls]
        replies = await self._round_trip(commands)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            replies = (await self._round_trip([("SCRIPT LOAD", script.text), *commands]))[1:]
        return _sound(replies)

    async def _round_trip(self, commands: Sequence[Command]) -> Sequence[Any]:
        if not commands:
            return []
        try:
            async with asyncio.timeout(self._seconds_max), self._free:
                if self._connection is None:
                    self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
                    # What bounds the batch bounds all of it: a timer for each step would cost as much as the steps.
                    self._connection.socket_timeout = None
                try:
                    return await _exchange(self._connection, commands)
                except ConnectionFailed:
                    # The server may have closed it long ago, which only who writes to it learns.
                    return await _exchange(self._connection, commands)
        except (RedisError, OSError, TimeoutError) as error:
            raise Retryable(f"redis: {type(error).__name__}") from error


async def _exchange(connection: Connection, commands: Sequence[Command]) -> list[Any]:
    await connection.send_packed_command(connection.pack_commands(commands))
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies


def _sound(replies: Sequence[Any]) -> Sequence[Any]:
    for reply in replies:
        if isinstance(reply, RedisError):
            raise Retryable(f"redis: {type(reply).__name__}") from reply
    return replies
