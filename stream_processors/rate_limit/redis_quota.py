"""Quotas in Redis: Lua on the server's clock, keyed by turn, on one slot per tenant."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter
from redis.asyncio import Redis

from schemas import redis_keys
from schemas.accounts import Account
from schemas.limits import LimitWindow
from schemas.plans import Plan, plan_of
from schemas.ports import Grant, Lost, Reservation
from stream_processors.rate_limit.core import Plans, RateLimitSettings
from stream_processors.rate_limit.quotas import MS_PER_S, Bound, Scope, bounds_of, running_window
from stream_processors.rate_limit.quotas import subject_of as subject
from stream_processors.redis_batch import Command, RedisLine, Script

KEY_COUNT: Final = 6
US_PER_S: Final = 1_000_000
# The places of the subjects among the scripts' keys.
_SCOPES: Final[dict[Scope, int]] = {"user": 2, "tenant": 3, "key": 4}
_SCOPE_AT: Final = {place: scope for scope, place in _SCOPES.items()}
_WINDOWS: Final = TypeAdapter(tuple[LimitWindow, ...]).validator
_REFUSED_BY_RUNNING: Final = -1
# A few for each plan, and for each key with limits of its own.
_BOUNDS_KEPT: Final = 1_024


class RedisQuota:
    """The ``Quota`` over Redis: one round trip per batch, each script atomic and idempotent per turn id.

    A Redis that lost its memory grants everybody a fresh day, no more: quotas are never the bill.
    """

    def __init__(self, redis: Redis, settings: RateLimitSettings, plans: Plans) -> None:
        self._line = RedisLine(redis, settings.redis_seconds_max)
        self._settings = settings
        self._plans = plans
        self._reserve = _load("reserve.lua")
        self._settle = _load("settle.lua")

    async def reserve(self, reservations: Sequence[Reservation]) -> Sequence[Grant]:
        """As ``Quota.reserve``. Raises Retryable when Redis does not answer in ``redis_seconds_max``."""
        plans = [plan_of(self._plans, asked.account.plan) for asked in reservations]
        calls = [self._call(asked, plan) for asked, plan in zip(reservations, plans, strict=True)]
        replies = await self._line.evaluate(self._reserve, KEY_COUNT, calls)
        return [_grant(reply.decode(), plan) for reply, plan in zip(replies, plans, strict=True)]

    async def settle(self, used: Sequence[tuple[Account, str, int]]) -> Sequence[tuple[LimitWindow, ...] | None]:
        """As ``Quota.settle``. Raises Retryable when Redis does not answer in ``redis_seconds_max``."""
        calls: list[Command] = [(*_keys(account, turn_id), tokens, turn_id) for account, turn_id, tokens in used]
        replies = await self._line.evaluate(self._settle, KEY_COUNT, calls)
        return [
            _settled(reply.decode(), plan_of(self._plans, account.plan))
            for reply, (account, _, _) in zip(replies, used, strict=True)
        ]

    def _call(self, asked: Reservation, plan: Plan) -> Command:
        settings = self._settings
        return (
            *_keys(asked.account, asked.turn_id),
            asked.tokens,
            asked.turn_id,
            asked.account.key_id,
            plan.concurrent_turns_max or 0,
            asked.hold_ms,
            settings.reservation_s * MS_PER_S,
            settings.refusal_s * MS_PER_S,
            _as_json(bounds_of(plan, asked.account)),
        )


@lru_cache(maxsize=_BOUNDS_KEPT)
def _as_json(bounds: tuple[Bound, ...]) -> str:
    """The quotas as the scripts read them."""
    parts = (
        (_SCOPES[bound.scope], f"{bound.kind}/{bound.period}", bound.limit, bound.period_s * US_PER_S)
        for bound in bounds
    )
    return json.dumps([part for quota in parts for part in quota])


def _keys(account: Account, turn_id: str) -> tuple[str, ...]:
    return (
        redis_keys.quota_reservation(account.tenant_id, turn_id),
        *(redis_keys.quota_bucket(account.tenant_id, subject(scope, account)) for scope in _SCOPES),
        redis_keys.quota_running(account.tenant_id, account.user_id),
        redis_keys.quota_held(account.tenant_id, account.user_id),
    )


def _load(name: str) -> Script:
    folder = Path(__file__).parent
    return Script((folder / "buckets.lua").read_text() + (folder / name).read_text())


def _grant(reply: str, plan: Plan) -> Grant:
    refused_by, retry_ms, running, quotas, lost = reply.split("|")
    buckets, turns = _windows(quotas), running_window(int(running), plan.concurrent_turns_max)
    refused: LimitWindow | None = None
    if int(refused_by) == _REFUSED_BY_RUNNING:
        (refused,) = turns or running_window(int(running), int(running))
    elif int(refused_by) > 0:
        refused = buckets[int(refused_by) - 1]
    return Grant((*buckets, *turns), refused, int(retry_ms), tuple(map(_lost, _split(lost))))


def _settled(reply: str, plan: Plan) -> tuple[LimitWindow, ...] | None:
    if not reply:
        return None
    running, quotas = reply.split("|")
    return (*_windows(quotas), *running_window(int(running), plan.concurrent_turns_max))


def _windows(quotas: str) -> tuple[LimitWindow, ...]:
    # All in one call: each by itself would cost half as much again.
    windows: tuple[LimitWindow, ...] = _WINDOWS.validate_python([_window(text) for text in _split(quotas)])
    return windows


def _window(text: str) -> Mapping[str, object]:
    bound, used, reset_ms = text.rsplit(",", 2)
    return {**_bound(bound), "used": used, "reset_ms": reset_ms}


@lru_cache(maxsize=_BOUNDS_KEPT)
def _bound(text: str) -> Mapping[str, object]:
    place, field, limit = text.split(",")
    kind, period = field.split("/")
    return {"scope": _SCOPE_AT[int(place)], "kind": kind, "period": period, "limit": limit}


def _lost(text: str) -> Lost:
    turn_id, tokens, key_id = text.split(",", 2)
    return Lost(turn_id, key_id, int(tokens))


def _split(text: str) -> list[str]:
    return text.split(";") if text else []
