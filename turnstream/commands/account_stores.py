"""The stores of accounts, and the log on which their changes are told, for one command."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import typer

from producers.accounts.change_log import AccountChangeLog
from schemas.accounts import AccountChanged
from schemas.errors import Fatal, Retryable
from schemas.ports import Cql
from turnstream.commands.exits import Exit, fail
from turnstream.commands.running_stack import fail_unreachable
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.settings import Settings

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_T = TypeVar("_T")


def require_names(**names: str) -> None:
    """End the command for an option whose value is no name."""
    for option, value in names.items():
        if not _NAME.fullmatch(value):
            fail(f"--{option} takes 1 to 64 letters, digits, dots, dashes or underscores", Exit.BAD_INPUT)


def require_plan(settings: Settings, plan: str) -> None:
    """End the command for a plan that is not set: its account could ask no model."""
    if plan not in settings.plans:
        fail(f"no such plan; there are {', '.join(settings.plans)}", Exit.BAD_INPUT)


def with_cql(settings: Settings, work: Callable[[Cql], Awaitable[_T]]) -> _T:
    """Run ``work`` on a session of its own. Ends the command when Cassandra does not answer."""
    try:
        from turnstream.stores.cassandra import open_session  # noqa: PLC0415  # the driver comes with an extra
    except ModuleNotFoundError as missing:
        fail(f"{missing.name} is missing: install the extra `turnstream[edge]`")

    async def run() -> _T:
        async with open_session(settings.cassandra) as cql:
            return await work(cql)

    try:
        return asyncio.run(run())
    except Retryable as error:
        fail_unreachable(str(error))
    except Fatal as error:
        fail(str(error))


def tell(settings: Settings, changes: Sequence[AccountChanged]) -> None:
    """Tell every process. Without the log the change holds all the same, once their caches have forgotten."""
    try:
        asyncio.run(_publish(settings, changes))
    except (Retryable, Fatal):
        seconds = max(settings.ingest.key_cache_seconds, settings.auth.key_cache_s)
        typer.echo(f"note: the log does not answer: caches forget within {seconds:g} s, open streams go on", err=True)


async def _publish(settings: Settings, changes: Sequence[AccountChanged]) -> None:
    async with KafkaProducer(settings.kafka) as producer:
        log = AccountChangeLog(producer, secrets.token_bytes)
        for change in changes:
            await log.publish(change)
