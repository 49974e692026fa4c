import asyncio

import pytest

from consumers.inference.beats import Beats
from tests.support.resting import rested
from tests.unit.inference.virtual_time import run_virtually


@pytest.mark.parametrize(("now_s", "due_s"), [(0.0, 0.04), (0.029, 0.04), (0.031, 0.08), (0.04, 0.08)])
def test_a_rest_ends_at_the_next_beat_that_is_not_about_to_come(now_s: float, due_s: float) -> None:
    async def rested_until() -> float:
        await asyncio.sleep(now_s)
        await rested(Beats().rest(40))
        return asyncio.get_running_loop().time()

    assert run_virtually(rested_until()) == pytest.approx(due_s)


def test_all_who_rest_until_a_beat_go_on_at_one_moment_but_for_who_was_cancelled() -> None:
    async def woken_at() -> list[float]:
        beats, loop = Beats(), asyncio.get_running_loop()
        times: list[float] = []

        async def rest(after_s: float) -> None:
            await asyncio.sleep(after_s)
            await rested(beats.rest(40))
            times.append(loop.time())

        rests = [asyncio.create_task(rest(number / 100)) for number in range(3)]
        await asyncio.sleep(0.025)
        rests[1].cancel()
        await asyncio.wait(rests)
        return times

    first, second = run_virtually(woken_at())
    assert first == second == pytest.approx(0.04)


def test_a_beat_of_nothing_is_no_rest() -> None:
    assert Beats().rest(0) is None
