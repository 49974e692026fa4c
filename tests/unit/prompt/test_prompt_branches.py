"""Which messages a turn continues: windows, hot or stored, and the tree that they show."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from schemas.errors import Malformed, Retryable
from schemas.events import NO_PARENT, Turn, TurnPrompted
from schemas.messages import Message
from schemas.models import DEFAULT_CATALOGUE
from schemas.plans import DEFAULT_PLANS
from schemas.ports import StoredMessage
from schemas.tokens import Refused
from schemas.topics import TURNS_ADMITTED
from stream_processors.prompt.core import PromptSettings
from stream_processors.prompt.stage import BuildPrompts
from stream_processors.token_counts import estimate_tokens
from tests.support.memory_prompting import MemoryHistory, MemoryHotContexts
from tests.support.turn_events import (
    CountedMetrics,
    admitted,
    assistant,
    conversation_id,
    received,
    stored,
    turn,
    user,
)


def node(seq: int, parent: int | None, message: Message, of_turn: int) -> StoredMessage:
    return replace(stored(seq, message, of_turn=of_turn), parent_seq=parent)


# One question, answered twice; then the first answer was followed up.
TREE = [
    node(10, NO_PARENT, user("one?"), 1),
    node(11, 10, assistant("one!"), 1),
    node(20, 10, assistant("uno!"), 2),
    node(30, 11, user("two?"), 3),
    node(31, 30, assistant("two!"), 3),
]


async def prompt(
    history: MemoryHistory, settings: PromptSettings, parent_seq: int | None = None, instructions: str | None = None
) -> TurnPrompted | Refused:
    asked: Turn = turn(stored=True, starts_conversation=False, parent_seq=parent_seq, instructions=instructions)
    stage = BuildPrompts(
        settings,
        DEFAULT_CATALOGUE,
        DEFAULT_PLANS,
        contexts=MemoryHotContexts(),
        history=history,
        count=estimate_tokens,
        metrics=CountedMetrics(),
    )
    (outcome,) = await stage([received(admitted(asked, user("next?")), TURNS_ADMITTED)])
    assert not isinstance(outcome, Malformed)
    emit, *_ = outcome
    assert isinstance(emit.event, TurnPrompted | Refused)
    return emit.event


async def texts_after(parent: int | None, tree: list[StoredMessage] = TREE, messages_max: int = 64) -> list[str]:
    settings = PromptSettings(history_messages_max=messages_max, history_windows_max=16)
    event = await prompt(MemoryHistory({conversation_id(1): list(tree)}), settings, parent_seq=parent)
    assert isinstance(event, TurnPrompted)
    expected = tree[-1].message_seq if parent is None else parent
    assert event.parent_seq == expected
    return [message.content.text for message in event.prompt.messages]


@pytest.mark.parametrize("messages_max", [64, 5])
@pytest.mark.parametrize(
    ("parent", "expected"),
    [
        (None, ["one?", "one!", "two?", "two!"]),
        (31, ["one?", "one!", "two?", "two!"]),
        (20, ["one?", "uno!"]),
        (11, ["one?", "one!"]),
        (NO_PARENT, []),
    ],
)
async def test_a_turn_continues_its_branch(parent: int | None, expected: list[str], messages_max: int) -> None:
    assert await texts_after(parent, messages_max=messages_max) == [*expected, "next?"]


async def test_a_branch_below_the_newest_messages_is_read_in_further_windows() -> None:
    old = [node(10 * i, 10 * i - 10 if i > 1 else NO_PARENT, user(f"old {i}"), i) for i in range(1, 7)]
    new = [node(100, NO_PARENT, user("new"), 50), node(110, 100, assistant("newer"), 51)]
    new += [node(120 + i, 110, assistant(f"again {i}"), 60 + i) for i in range(4)]
    assert await texts_after(60, [*old, *new], messages_max=4) == ["old 3", "old 4", "old 5", "old 6", "next?"]


async def test_a_deleted_message_is_passed_over_and_what_follows_it_stays() -> None:
    tree = [TREE[0], replace(TREE[1], deleted=True), *TREE[3:]]
    assert await texts_after(None, tree) == ["one?", "two?", "two!", "next?"]


async def test_the_first_turn_of_an_empty_conversation_opens_it() -> None:
    event = await prompt(MemoryHistory(), PromptSettings())
    assert isinstance(event, TurnPrompted)
    assert event.parent_seq == NO_PARENT


@pytest.mark.parametrize("parent", [15, 5, 2**40])
async def test_a_parent_that_does_not_exist_is_a_404(parent: int) -> None:
    event = await prompt(MemoryHistory({conversation_id(1): list(TREE)}), PromptSettings(), parent_seq=parent)
    assert isinstance(event, Refused)
    assert (event.refusal.status, event.refusal.error.code) == (404, "item_not_found")


async def test_a_store_that_does_not_answer_half_way_refuses_the_turn() -> None:
    class Failing(MemoryHistory):
        async def older(self, *_: object) -> Sequence[Sequence[StoredMessage]]:
            raise Retryable("the memory history is down")

    siblings = [node(100 + i, 10, assistant(f"again {i}"), 60 + i) for i in range(4)]
    history = Failing({conversation_id(1): [TREE[0], *siblings]})
    event = await prompt(history, PromptSettings(history_messages_max=4))
    assert isinstance(event, Refused)
    assert event.refusal.status == 503


async def test_instructions_come_before_the_history_and_are_not_the_input() -> None:
    event = await prompt(MemoryHistory({conversation_id(1): list(TREE)}), PromptSettings(), instructions="be brief")
    assert isinstance(event, TurnPrompted)
    assert event.prompt.messages[0].content.text == "be brief"
    assert event.prompt.input_count == 1
