"""Batches of Redis commands and Lua scripts: one round trip each, and errors in the loop's language.

Redis commands that are cancelled half-way close their connection (redis-py does so since 4.5.5; a test holds
it), so that no reply waits in the pool for somebody else.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

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


async def send_batch(redis: Redis, commands: Sequence[Command], seconds_max: float) -> Sequence[Any]:
    """The replies to ``commands``, in order, from one round trip. Raises Retryable when any of them failed."""
    replies = await _round_trip(redis, commands, seconds_max)
    for reply in replies:
        if isinstance(reply, RedisError):
            raise Retryable(f"redis: {type(reply).__name__}") from reply
    return replies


async def evaluate_batch(
    redis: Redis, script: Script, key_count: int, calls: Sequence[Command], seconds_max: float
) -> Sequence[Any]:
    """The replies of ``script`` to ``calls`` (``key_count`` keys, then arguments), in order, from one round trip.

    A server that does not know the script (restarted, failed over) is told it once and asked again, which is
    why scripts must be idempotent. Raises Retryable.
    """
    commands: list[Command] = [("EVALSHA", script.sha, key_count, *call) for call in calls]
    replies = await _round_trip(redis, commands, seconds_max)
    if any(isinstance(reply, NoScriptError) for reply in replies):
        load: Command = ("SCRIPT LOAD", script.text)
        replies = (await send_batch(redis, [load, *commands], seconds_max))[1:]
    for reply in replies:
        if isinstance(reply, RedisError):
            raise Retryable(f"redis: {type(reply).__name__}") from reply
    return replies


async def _round_trip(redis: Redis, commands: Sequence[Command], seconds_max: float) -> Sequence[Any]:
    if not commands:
        return []
    try:
        async with asyncio.timeout(seconds_max), redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute(raise_on_error=False)
    except (RedisError, OSError, TimeoutError) as error:
        raise Retryable(f"redis: {type(error).__name__}") from error
