"""The hot contexts in Redis: hashes that the prompt stage fills and the sink extends while they exist."""

import asyncio
from collections.abc import Sequence
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from consumers.cassandra_sink.core import CassandraSinkSettings
from consumers.cassandra_sink.ports import ContextUpdate
from schemas.errors import Retryable
from schemas.hot_context import COMPLETE_FIELD, encode_stored, field_of
from schemas.redis_keys import hot_context

# KEYS: the hash. ARGV: marker field, messages at most, seconds to live, then field and value of each message.
# Atomic, so that a context that expires or is dropped meanwhile does not come back with these messages alone.
# The marker is the only field that is no number: it sorts behind the digits.
_EXTEND: Final = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
local fields = redis.call('HKEYS', KEYS[1])
local excess = #fields - 1 - tonumber(ARGV[2])
if excess > 0 then
  table.sort(fields)
  redis.call('HDEL', KEYS[1], unpack(fields, 1, excess))
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""


class RedisContexts:
    """``HotContexts`` on Redis; ``context_seconds_max`` bounds a call, whatever the client's own retries are."""

    def __init__(self, redis: Redis, settings: CassandraSinkSettings) -> None:
        self._redis = redis
        self._settings = settings

    async def refresh(self, updates: Sequence[ContextUpdate], doubtful: Sequence[str]) -> None:
        """Drop the contexts of ``doubtful`` conversations, extend those of ``updates`` that exist: one round trip.

        Raises Retryable when Redis did not confirm every one.
        """
        if not updates and not doubtful:
            return
        try:
            # Cut off half-way, redis-py closes the connection, so that no reply waits in it for somebody else.
            deadline = asyncio.timeout(self._settings.context_seconds_max)
            async with deadline, self._redis.pipeline(transaction=False) as pipeline:
                for conversation_id in doubtful:
                    pipeline.delete(hot_context(conversation_id))
                for update in updates:
                    self._extend(pipeline, update)
                await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            raise Retryable(f"hot contexts were not confirmed ({type(error).__name__})") from error

    def _extend(self, pipeline: Pipeline, update: ContextUpdate) -> None:
        fields = [
            part for message in update.messages for part in (field_of(message.message_seq), encode_stored(message))
        ]
        # EVAL, not EVALSHA: it needs no second round trip after a restart or failover of Redis.
        pipeline.eval(
            _EXTEND,
            1,
            hot_context(update.conversation_id),
            COMPLETE_FIELD,
            self._settings.context_messages_max,
            self._settings.context_ttl_s,
            *fields,
        )
