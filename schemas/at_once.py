"""Work that is done side by side and fails as one, in the terms of ``schemas.errors``."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from schemas.errors import Fatal, Retryable

T = TypeVar("T")


async def at_once(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of ``calls``, in order. When one of them raises, the others are cancelled.

    Raises Retryable, or the first of whatever else was raised: Fatal must not hide in a group, nor behind a Retryable.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
            if tasks:
                # Waited for inside: a failure while the group waits at its end would be counted as a cancellation of
                # this task for good (Python before 3.13), and a later timeout of it would end as one.
                await asyncio.wait(tasks)
    except ExceptionGroup as failures:
        raise _one_of(failures, len(tasks)) from failures
    return [task.result() for task in tasks]


def _one_of(failures: ExceptionGroup[Exception], calls: int) -> Exception:
    _, others = failures.split(Retryable)
    if others is not None:
        fatal = others.subgroup(Fatal)
        return (fatal or others).exceptions[0]
    return Retryable(f"one of {calls} calls failed: {failures.exceptions[0]}")
