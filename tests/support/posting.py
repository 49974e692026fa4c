"""How the producers of tests post: an append in a task of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from schemas.errors import OutcomeUnknown
from schemas.ports import OnLanded, Outgoing

_posts: set[asyncio.Task[None]] = set()


def post(
    append: Callable[[Sequence[Outgoing]], Awaitable[Sequence[int]]],
    records: Sequence[Outgoing],
    on_landed: OnLanded,
) -> None:
    """As ``PostingProducer.post``, over ``append``."""

    async def appended() -> None:
        offsets: Sequence[int] | None = None
        with suppress(OutcomeUnknown):
            offsets = await append(records)
        on_landed(offsets)

    task = asyncio.get_running_loop().create_task(appended())
    _posts.add(task)
    task.add_done_callback(_posts.discard)
