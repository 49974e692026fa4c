"""Audits what a command does: before it is done, and again with what came of it."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import typer

from producers.audit.trail import DONE, FAILED, AuditTrail
from schemas.errors import Fatal, Malformed, Retryable
from schemas.operations import OperatorActed
from turnstream.audit.actor import Actor, NotAllowedError
from turnstream.commands.exits import Exit, fail
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.settings import Settings
from turnstream.wiring.audit import audit_trail, find_actor, open_trail

_UNTOLD: Final = "the audit topic does not answer"


@contextmanager
def audited(
    settings: Settings,
    action: str,
    subject: str,
    *,
    details: Mapping[str, str] | None = None,
    reason: str | None = None,
    urgent: bool = False,
) -> Iterator[None]:
    """Audit the body of the ``with``. Ends the command when the audit cannot be written, unless it is ``urgent``.

    What takes access away is urgent: it is done without a log, too, and a note says that nobody will read of it.
    """
    begun: OperatorActed | None = None
    try:
        begun = asyncio.run(_begin(settings, action, subject, reason, details))
    except NotAllowedError as error:
        fail(str(error), Exit.BAD_INPUT)
    except (Retryable, Fatal, Malformed) as error:
        if not urgent:
            fail(f"{_UNTOLD}, so nothing was done: {error}", Exit.NOT_RUNNING)
        typer.echo(f"note: {_UNTOLD}: this is done without an audit", err=True)
    outcome = FAILED
    try:
        yield
        outcome = DONE
    finally:
        if begun is not None:
            _end(settings, begun, outcome)


def _end(settings: Settings, begun: OperatorActed, outcome: str) -> None:
    try:
        asyncio.run(_tell_outcome(settings, begun, outcome))
    except (Retryable, Fatal, Malformed):
        typer.echo(f"note: {_UNTOLD}: it has only the beginning of this", err=True)


async def _begin(
    settings: Settings, action: str, subject: str, reason: str | None, details: Mapping[str, str] | None
) -> OperatorActed:
    async with open_trail(settings) as trail:
        begun = trail.begun(action, subject, reason, details)
        await trail.write([begun])
        return begun


async def _tell_outcome(settings: Settings, begun: OperatorActed, outcome: str) -> None:
    # The actor stays who began it, whatever has become of their key since.
    async with KafkaProducer(settings.kafka) as producer:
        trail = audit_trail(producer, Actor(begun.actor))
        await trail.write([trail.ended(begun, outcome)])


@asynccontextmanager
async def trail_of_run(settings: Settings) -> AsyncIterator[AuditTrail]:
    """The trail of a command that is asynchronous itself. Raises Retryable, Fatal (also for who may not operate)."""
    try:
        async with open_trail(settings) as trail:
            yield trail
    except NotAllowedError as error:
        raise Fatal(str(error)) from None


def require_actor(settings: Settings) -> Actor:
    """Who operates. Ends the command when that cannot be found out."""
    try:
        return asyncio.run(find_actor(settings))
    except NotAllowedError as error:
        fail(str(error), Exit.BAD_INPUT)
    except (Retryable, Fatal) as error:
        fail(str(error), Exit.NOT_RUNNING)
