"""A processor of its own for tests: admits turns of one account by a Redis that it shares, each in its own batch.

``python -m tests.support.admitting SOCKET FIRST COUNT``: it says "ready", waits for a line, admits them all at once,
says how many it let in, and then waits to be ended.
"""

import asyncio
import sys

from redis.asyncio import Redis

from schemas.events import TurnAdmitted
from schemas.plans import Plan
from schemas.ports import Outcome
from schemas.topics import TURNS_AUTHORIZED
from stream_processors.rate_limit.core import RateLimitSettings
from stream_processors.rate_limit.redis_quota import RedisQuota
from stream_processors.rate_limit.stage import Admit
from tests.support.turn_events import ACCOUNT, NOW_MS, CountedMetrics, authorized, received, turn

REQUESTS_MAX = 10
# A minute's bucket leaks: the day's does so in hours.
PLANS = {"pro": Plan(requests_per_minute=1_000, requests_per_day=REQUESTS_MAX, tokens_per_day=100_000)}
SETTINGS = RateLimitSettings(settle_grace_s=1, redis_seconds_max=10)


def admit(redis: Redis) -> Admit:
    """The stage as a process has it; turns of these tests are past their deadline and held for the grace alone."""
    return Admit(SETTINGS, PLANS, RedisQuota(redis, SETTINGS, PLANS), CountedMetrics(), lambda: NOW_MS)


async def admitted(stage: Admit, numbers: range) -> int:
    """How many turns of these numbers are let in, all asked at once."""

    async def ask(number: int) -> bool:
        event = authorized(turn(number, deadline_ms=NOW_MS), account=ACCOUNT)
        (outcome,) = await stage([received(event, TURNS_AUTHORIZED)])
        return lets_in(outcome)

    return sum(await asyncio.gather(*map(ask, numbers)))


def lets_in(outcome: Outcome) -> bool:
    """Whether the outcome passes a turn on."""
    return not isinstance(outcome, Exception) and any(isinstance(emit.event, TurnAdmitted) for emit in outcome)


async def _run(socket: str, first: int, count: int) -> None:
    async with Redis(unix_socket_path=socket) as redis:
        stage = admit(redis)
        await redis.ping()
        _say("ready")
        await asyncio.to_thread(sys.stdin.readline)
        _say(str(await admitted(stage, range(first, first + count))))
        await asyncio.to_thread(sys.stdin.readline)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
