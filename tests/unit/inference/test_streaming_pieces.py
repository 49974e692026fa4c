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


async def one_word_at_a_time(world: World, gate: asyncio.Semaphore, words: int) -> None:
    """Let the backend say so many words, each when the one before it is on the log."""
    for word in range(words):
        gate.release()
        await settled(lambda word=word: world.log.answer().tokens > word)  # type: ignore[misc]


async def test_what_goes_wrong_with_a_piece_goes_wrong_for_its_turn() -> None:
    gate = asyncio.Semaphore(0)
    world = World(backend=FakeBackend(gate=gate), policy=TrippingPolicy())
    turn = asyncio.create_task(world.stage()(receive()))
    await one_word_at_a_time(world, gate, 3)
    world.log.gate = asyncio.Event()
    appends = len(world.log.appends)
    gate.release()
    await settled(lambda: len(world.log.appends) > appends)
    # The word comes while the one before it is on its way: it is looked at when that lands.
    gate.release()
    await settled(lambda: world.backend.spoken > 4)
    world.log.gate.set()
    with pytest.raises(RuntimeError, match="the rule tripped"):
        await turn
    assert world.log.answer().text == "".join(WORDS[:4])
    assert world.backend.open == 0


async def test_a_turn_that_was_given_up_posts_no_more_when_its_last_piece_lands() -> None:
    gate = asyncio.Semaphore(0)
    world = World(backend=FakeBackend(gate=gate))
    turn = asyncio.create_task(world.stage()(receive()))
    await one_word_at_a_time(world, gate, 3)
    world.log.gate = asyncio.Event()
    appends = len(world.log.appends)
    gate.release()
    await settled(lambda: len(world.log.appends) > appends)
    # There would be more to post.
    gate.release()
    await settled(lambda: world.backend.spoken > 4)
    turn.cancel()
    await asyncio.wait([turn])
    world.log.gate.set()
    await settled(lambda: world.log.answer().tokens == 4)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(world.log.appends) == appends + 1
    assert [type(event) for event in world.log.tokens()[1:]] == [Delta] * 4
    assert not any(isinstance(event, Finished) for event in world.log.tokens())
