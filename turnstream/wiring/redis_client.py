"""The Redis client of a process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import hiredis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import DataError

from turnstream.settings import RedisSettings


class PackedByHiredis:
    """A connection's commands, written by hiredis: redis-py does so for its blocking connections alone."""

    def pack_command(self, name: str | bytes, *args: Any) -> list[bytes]:
        """As ``redis.asyncio.Connection.pack_command``. Raises redis.DataError for a value that is no argument."""
        try:
            return [hiredis.pack_command((*name.split(), *args))]
        except TypeError as error:
            raise DataError(str(error)) from None


@asynccontextmanager
async def open_redis(settings: RedisSettings) -> AsyncIterator[Redis]:
    """A client with bounded connections and waits; it connects when first used and closes at the end."""
    pool = BlockingConnectionPool.from_url(
        settings.url.get_secret_value(),
        max_connections=settings.connections_max,
        timeout=settings.answer_seconds_max,
        socket_connect_timeout=settings.connect_seconds_max,
        socket_timeout=settings.answer_seconds_max,
    )
    # Which kind of connection it is (TCP, TLS, a socket file), the URL says.
    pool.connection_class = type("PackedConnection", (PackedByHiredis, pool.connection_class), {})
    client = Redis(connection_pool=pool)
    try:
        yield client
    finally:
        await client.aclose()
        await pool.aclose()
