"""Pieces in the middle of an answer, which no task waits for."""

import asyncio

import pytest

from schemas.ports import Verdict
from schemas.tokens import Delta, Finished
from tests.unit.inference.inference_fakes import WORDS, FakeBackend, FakePolicy, World, receive, settled


class TrippingPolicy(FakePolicy):
    """Trips over a word, but not at the first look."""

    def judge_output(self, text: str, before: str = "") -> Verdict:
        if before and WORDS[4] in text:
            raise RuntimeError("the rule tripped")
        return super().judge_output(text, before)


async def one_word_on_its_way(world: World, gate: asyncio.Semaphore) -> "asyncio.Task[None]":
    """A turn of which three words are on the log, the fourth is on its way there, and the fifth is spoken."""
    turn = asyncio.create_task(world.stage()(receive()))
    for word in range(3):
        gate.release()
        await world.log.accepted(word + 1, turn)
    world.log.gate = asyncio.Event()
    appends = len(world.log.appends)
    gate.release()
    await settled(lambda: len(world.log.appends) > appends)
    gate.release()
    await settled(lambda: world.backend.spoken > 4)
    return turn


async def test_what_goes_wrong_with_a_piece_goes_wrong_for_its_turn() -> None:
    gate = asyncio.Semaphore(0)
    world = World(backend=FakeBackend(gate=gate), policy=TrippingPolicy())
    turn = await one_word_on_its_way(world, gate)
    land(world)
    with pytest.raises(RuntimeError, match="the rule tripped"):
        await turn
    assert world.log.answer().text == "".join(WORDS[:4])
    assert world.backend.open == 0


async def test_a_turn_that_was_given_up_posts_no_more_when_its_last_piece_lands() -> None:
    gate = asyncio.Semaphore(0)
    world = World(backend=FakeBackend(gate=gate))
    turn = await one_word_on_its_way(world, gate)
    appends = len(world.log.appends)
    turn.cancel()
    await asyncio.wait([turn])
    land(world)
    await settled(lambda: world.log.answer().tokens == 4)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(world.log.appends) == appends
    assert [type(event) for event in world.log.tokens()[1:]] == [Delta] * 4
    assert not any(isinstance(event, Finished) for event in world.log.tokens())


def land(world: World) -> None:
    """Let what is on its way arrive."""
    assert world.log.gate is not None
    world.log.gate.set()
