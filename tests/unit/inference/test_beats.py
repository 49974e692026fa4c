import asyncio
from functools import partial

import pytest

from consumers.inference.beats import Beats
from tests.unit.inference.virtual_time import run_virtually


@pytest.mark.parametrize(("now_s", "due_s"), [(0.0, 0.04), (0.029, 0.04), (0.031, 0.08), (0.04, 0.08)])
def test_a_rest_ends_at_the_next_beat_that_is_not_about_to_come(now_s: float, due_s: float) -> None:
    async def rested_until() -> float:
        await asyncio.sleep(now_s)
        over = asyncio.Event()
        Beats().rest(40, over.set)
        await over.wait()
        return asyncio.get_running_loop().time()

    assert run_virtually(rested_until()) == pytest.approx(due_s)


def test_all_who_rest_until_a_beat_go_on_at_one_moment_in_their_order() -> None:
    async def went_on() -> list[tuple[int, float]]:
        beats, loop = Beats(), asyncio.get_running_loop()
        times: list[tuple[int, float]] = []

        def note(number: int) -> None:
            times.append((number, loop.time()))

        for number in range(3):
            beats.rest(40, partial(note, number))
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.02)
        return times

    numbers, times = zip(*run_virtually(went_on()), strict=True)
    assert numbers == (0, 1, 2)
    assert times == pytest.approx((0.04, 0.04, 0.04))


def test_a_beat_of_nothing_is_no_rest() -> None:
    went_on: list[bool] = []
    Beats().rest(0, lambda: went_on.append(True))
    assert went_on == [True]
