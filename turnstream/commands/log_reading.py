"""A reader of the log for one command."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from schemas.errors import Fatal, Retryable
from schemas.ports import LogReader
from turnstream.commands.running_stack import fail_unreachable
from turnstream.exception_groups import leaves
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.settings import Settings

_T = TypeVar("_T")


def read_log(settings: Settings, work: Callable[[LogReader], Awaitable[_T]]) -> _T:
    """Run ``work`` on a reader of its own. Ends the command when the log cannot be read."""

    async def run() -> _T:
        async with KafkaLogReader(settings.kafka) as reader:
            return await work(reader)

    reason: str | None = None
    try:
        found = asyncio.run(run())
    # What fails in the reader's own tasks comes as a group.
    except* (Retryable, Fatal) as group:
        reason = str(leaves(group)[0])
    if reason is not None:
        fail_unreachable(f"the log could not be read: {reason}")
    return found
