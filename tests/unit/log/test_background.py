import asyncio

import pytest

from schemas.errors import Fatal
from turnstream.log.background import Background


async def forever() -> None:
    await asyncio.Event().wait()


async def test_the_users_error_is_not_wrapped() -> None:
    background = Background()

    async def use() -> None:
        await background.open()
        running = background.start(forever())
        try:
            raise Fatal("the user's")
        finally:
            await background.close()
            assert running.cancelled()

    with pytest.raises(Fatal, match="the user's"):
        await use()


async def test_a_failed_task_stops_the_user_and_is_raised() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise Fatal("the task's")

    async def use() -> None:
        background = Background()
        await background.open()
        background.start(fail())
        try:
            await forever()
        finally:
            await background.close()

    with pytest.raises(ExceptionGroup) as caught:
        await use()
    assert caught.value.subgroup(Fatal) is not None


async def test_close_waits_for_bounded_work() -> None:
    done: list[str] = []

    async def bounded() -> None:
        await asyncio.sleep(0)
        done.append("bounded")

    background = Background()
    await background.open()
    background.start_bounded(bounded())
    await background.close()
    assert done == ["bounded"]
