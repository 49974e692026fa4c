"""Several answers to one prompt, generated at once and told as one."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from schemas.ports import Generated


async def side_by_side(answers: Sequence[AsyncGenerator[Generated, None]]) -> AsyncGenerator[Generated, None]:
    """The pieces of all ``answers`` as they come, until all have ended. If one fails the others are closed."""
    # No TaskGroup: its scope must not span the yields of a generator, which may be closed by another task.
    waiting = {asyncio.ensure_future(anext(answer)): answer for answer in answers}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                answer = waiting[task]
                try:
                    piece = task.result()
                except StopAsyncIteration:
                    del waiting[task]
                    continue
                del waiting[task]
                waiting[asyncio.ensure_future(anext(answer))] = answer
                yield piece
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for answer in answers:
            await answer.aclose()
