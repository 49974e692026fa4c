"""The Redis client of a process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import BlockingConnectionPool, Redis

from turnstream.settings import RedisSettings


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
    client = Redis(connection_pool=pool)
    try:
        yield client
    finally:
        await client.aclose()
        await pool.aclose()
