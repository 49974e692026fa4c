"""Hot contexts in Redis: the layout of ``schemas.hot_context``."""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from schemas.errors import Malformed
from schemas.hot_context import COMPLETE_FIELD, COMPLETE_VALUE, decode_stored, encode_stored, field_of
from schemas.ports import StoredMessage
from schemas.redis_keys import hot_context
from stream_processors.prompt.core import PromptSettings
from stream_processors.redis_batch import Command, RedisLine, Script

MS_PER_S: Final = 1_000
TOKEN_BYTES: Final = 8
_COMPLETE_FIELD: Final = COMPLETE_FIELD.encode()
_COMPLETE_VALUE: Final = COMPLETE_VALUE.encode()


class RedisContexts:
    """The ``HotContexts`` over a Redis client that does not decode replies: one round trip per call."""

    def __init__(self, redis: Redis, settings: PromptSettings) -> None:
        self._line = RedisLine(redis, settings.redis_seconds_max)
        self._settings = settings
        self._publish = Script(Path(__file__).with_name("publish.lua").read_text())

    async def read(self, conversation_ids: Sequence[str]) -> Mapping[str, Sequence[StoredMessage]]:
        """As ``HotContexts.read``; a context that cannot be decoded counts as absent."""
        commands: list[Command] = [("HGETALL", hot_context(conversation_id)) for conversation_id in conversation_ids]
        replies = await self._line.send(commands)
        contexts = {
            conversation_id: _decode(fields) for conversation_id, fields in zip(conversation_ids, replies, strict=True)
        }
        return {conversation_id: messages for conversation_id, messages in contexts.items() if messages is not None}

    async def begin_rebuild(self, conversation_ids: Sequence[str]) -> str:
        """As ``HotContexts.begin_rebuild``: the marker holds the token, so the context exists but is not whole."""
        token = secrets.token_hex(TOKEN_BYTES)
        ttl_ms = self._settings.rebuild_ttl_s * MS_PER_S
        commands: list[Command] = []
        for key in map(hot_context, conversation_ids):
            commands += [("HSET", key, COMPLETE_FIELD, token), ("PEXPIRE", key, ttl_ms)]
        await self._line.send(commands)
        return token

    async def finish_rebuild(self, token: str, contexts: Mapping[str, Sequence[StoredMessage]]) -> None:
        """As ``HotContexts.finish_rebuild``; a context above ``context_bytes_max`` is left to expire."""
        ttl_ms = self._settings.context_ttl_s * MS_PER_S
        calls: list[Command] = []
        for conversation_id, messages in contexts.items():
            fields = _encode(messages)
            if sum(map(len, fields)) <= self._settings.context_bytes_max:
                key = hot_context(conversation_id)
                calls.append((key, COMPLETE_FIELD, token, COMPLETE_VALUE, ttl_ms, *fields))
        await self._line.evaluate(self._publish, 1, calls)


def _encode(messages: Sequence[StoredMessage]) -> list[str | bytes]:
    return [part for stored in messages for part in (field_of(stored.message_seq), encode_stored(stored))]


def _decode(fields: dict[bytes, bytes]) -> Sequence[StoredMessage] | None:
    if fields.pop(_COMPLETE_FIELD, None) != _COMPLETE_VALUE:
        return None
    try:
        return [decode_stored(fields[field]) for field in sorted(fields)]
    except Malformed:
        return None
