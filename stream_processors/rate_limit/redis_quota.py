"""Quotas in Redis: Lua on the server's clock, keyed by turn, on one slot per tenant."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from schemas import redis_keys
from schemas.accounts import Account
from schemas.events import RateLimits
from schemas.ports import Grant, Reservation
from stream_processors.rate_limit.core import RateLimitSettings
from stream_processors.redis_batch import Command, Script, evaluate_batch

SCOPES: Final = (None, "requests", "tokens")
KEY_COUNT: Final = 3
MS_PER_S: Final = 1_000


class RedisQuota:
    """The ``Quota`` over Redis: one round trip per batch, each script atomic and idempotent per turn id.

    A Redis that lost its memory grants everybody a fresh minute, no more: quotas are never the bill.
    """

    def __init__(self, redis: Redis, settings: RateLimitSettings) -> None:
        self._redis = redis
        self._settings = settings
        self._reserve = _load("reserve.lua")
        self._settle = _load("settle.lua")

    async def reserve(self, reservations: Sequence[Reservation]) -> Sequence[Grant]:
        """As ``Quota.reserve``. Raises Retryable when Redis does not answer in ``redis_seconds_max``."""
        kept_ms = (self._settings.reservation_s * MS_PER_S, self._settings.refusal_s * MS_PER_S)
        calls: list[Command] = [
            (*self._address(asked.account, asked.turn_id), asked.tokens, *self._limits(asked.account.plan), *kept_ms)
            for asked in reservations
        ]
        replies = await evaluate_batch(self._redis, self._reserve, KEY_COUNT, calls, self._settings.redis_seconds_max)
        return [_grant(reply) for reply in replies]

    async def settle(self, used: Sequence[tuple[Account, str, int]]) -> None:
        """As ``Quota.settle``. Raises Retryable when Redis does not answer in ``redis_seconds_max``."""
        calls: list[Command] = [
            (*self._address(account, turn_id), tokens, *self._limits(account.plan)) for account, turn_id, tokens in used
        ]
        await evaluate_batch(self._redis, self._settle, KEY_COUNT, calls, self._settings.redis_seconds_max)

    def _address(self, account: Account, turn_id: str) -> tuple[str, str, str]:
        return (
            redis_keys.quota_reservation(account.tenant_id, turn_id),
            redis_keys.quota_bucket(account.tenant_id, f"user:{account.user_id}"),
            redis_keys.quota_bucket(account.tenant_id, "tenant"),
        )

    def _limits(self, plan: str) -> tuple[int, int, int, int]:
        limits = self._settings.limits_of(plan)
        return (
            limits.requests_per_minute,
            limits.tokens_per_minute,
            limits.tenant_requests_per_minute or 0,
            limits.tenant_tokens_per_minute or 0,
        )


def _load(name: str) -> Script:
    folder = Path(__file__).parent
    return Script((folder / "buckets.lua").read_text() + (folder / name).read_text())


def _grant(reply: bytes) -> Grant:
    scope, retry_ms, *limits = map(int, reply.split(b","))
    return Grant(
        limits=RateLimits(
            limit_requests=limits[0],
            remaining_requests=limits[1],
            reset_requests_ms=limits[2],
            limit_tokens=limits[3],
            remaining_tokens=limits[4],
            reset_tokens_ms=limits[5],
        ),
        scope=SCOPES[scope],
        retry_after_ms=retry_ms,
    )
