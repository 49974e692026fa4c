from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.content import Content
from schemas.errors import Refusal
from schemas.events import Prompt, TurnPrompted
from schemas.messages import Message, Role
from schemas.models import ModelCard
from schemas.ports import StoredMessage
from stream_processors.prompt.branching import begin
from stream_processors.prompt.core import (
    Parts,
    PromptSettings,
    Room,
    build,
    client_messages,
    fit,
    newest_turns,
    policy_messages,
    room_for,
)
from stream_processors.token_counts import ANSWER_OVERHEAD_TOKENS, estimate_tokens, message_tokens
from tests.support.turn_events import admitted, assistant, stored, system, turn, user

CARD = ModelCard(id="turnstream-fast", pool="fast", context_tokens=200, output_tokens_max=50)
TALK = [
    stored(10, user("first question")),
    stored(11, assistant("first answer"), of_turn=1),
    stored(20, user("second question")),
    stored(21, assistant("second answer"), of_turn=2),
]
FIRST_TURN_TOKENS = (4 + 4) + (3 + 4)
SECOND_TURN_TOKENS = (4 + 4) + (4 + 4)


def texts(messages: Sequence[Message]) -> list[str]:
    return [message.content.text for message in messages]


def fitted(parts: Parts, room: Room) -> Prompt:
    prompt = fit(parts, room, estimate_tokens)
    assert isinstance(prompt, Prompt)
    return prompt


def built(
    history: Sequence[StoredMessage], *own: Message, message_seq: int = 1_000, policy: tuple[Message, ...] = ()
) -> Prompt:
    event = admitted(turn(stored=True, starts_conversation=False), *own, message_seq=message_seq)
    result = build(
        event,
        CARD,
        begin(event, history, 64),
        policy=policy,
        completion_tokens_min=5,
        count=estimate_tokens,
    )
    assert isinstance(result, TurnPrompted)
    return result.prompt


def test_policy_comes_first_then_history_then_the_own_input() -> None:
    policy = policy_messages(PromptSettings(system_messages=("be kind", "be brief")))
    prompt = built(TALK, user("third question"), policy=policy)
    assert texts(prompt.messages) == [
        "be kind",
        "be brief",
        "first question",
        "first answer",
        "second question",
        "second answer",
        "third question",
    ]
    assert prompt.messages[0].role is Role.SYSTEM
    assert (prompt.input_count, prompt.dropped_messages) == (1, 0)


def test_messages_of_the_turn_itself_and_later_ones_are_no_history() -> None:
    assert texts(built(TALK, user("again"), message_seq=20).messages) == ["first question", "first answer", "again"]


def test_an_unanswered_question_is_left_out_and_an_answer_cut_short_is_not() -> None:
    cut_short = replace(TALK[1], complete=False)
    unanswered = replace(TALK[2], complete=False)
    prompt = built([TALK[0], cut_short, unanswered], user("again"))
    assert texts(prompt.messages) == ["first question", "first answer", "again"]


def test_the_clients_system_message_outlives_the_turns_between() -> None:
    history = [stored(1, system("speak French")), stored(2, user("x" * 800), of_turn=0), *TALK]
    prompt = built(history, user("third question"))
    assert texts(prompt.messages)[0] == "speak French"
    assert "first question" in texts(prompt.messages)
    assert prompt.dropped_messages == 1


def test_the_newest_turn_with_system_messages_is_in_force() -> None:
    history = [stored(10, system("old")), stored(20, system("new")), stored(21, user("hi"), of_turn=2)]
    assert texts(client_messages(history, (user("now"),))) == ["new"]


def test_own_system_messages_replace_the_earlier_ones_and_stay_in_place() -> None:
    prompt = built([stored(10, system("old")), *TALK[2:]], system("now"), user("third question"))
    assert texts(prompt.messages) == ["second question", "second answer", "now", "third question"]
    assert prompt.input_count == 2


def test_history_is_dropped_oldest_first_in_whole_turns() -> None:
    one_token_too_few = FIRST_TURN_TOKENS + SECOND_TURN_TOKENS - 1
    selection = newest_turns(TALK, one_token_too_few, estimate_tokens)
    assert texts(selection.messages) == ["second question", "second answer"]
    assert selection.tokens == SECOND_TURN_TOKENS


def test_an_older_turn_that_would_fit_is_not_taken_past_a_newer_one_that_does_not() -> None:
    history = [*TALK, stored(30, user("x" * 400))]
    assert newest_turns(history, 50, estimate_tokens).messages == ()


def test_an_answer_whose_question_is_beyond_the_history_is_left_out() -> None:
    assert texts(newest_turns(TALK[1:], 1_000, estimate_tokens).messages) == ["second question", "second answer"]


def test_a_turn_without_an_answer_does_not_stand_in_the_way() -> None:
    history = [TALK[0], *TALK[2:]]
    assert len(newest_turns(history, 1_000, estimate_tokens).messages) == 3


@pytest.mark.parametrize(
    ("asked", "completion"), [(None, 50), (20, 20), (80, 50)], ids=["model's maximum", "client's", "capped"]
)
def test_the_completion_is_the_smaller_of_request_and_model(asked: int | None, completion: int) -> None:
    assert room_for(asked, CARD, 5).completion_tokens == completion


def test_a_long_input_takes_the_answers_room_down_to_its_minimum() -> None:
    own = (user("x" * 4 * 180),)
    prompt = fitted(Parts((), TALK, own), Room(200, 50, 13))
    assert (prompt.prompt_tokens, prompt.max_tokens, prompt.dropped_messages) == (187, 13, 4)


def test_an_input_that_leaves_less_is_refused_in_openais_words() -> None:
    refusal = fit(Parts((), [], (user("x" * 4 * 180),)), Room(200, 50, 14), estimate_tokens)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.error.code, refusal.error.param) == (400, "context_length_exceeded", "messages")
    assert refusal.error.message == (
        "This model's maximum context length is 200 tokens. However, your messages resulted in 187 tokens. "
        "Please reduce the length of the messages."
    )


@given(
    history=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 120)), max_size=12),
    own=st.lists(st.integers(0, 300), min_size=1, max_size=3),
    policy=st.integers(0, 100),
    wanted=st.none() | st.integers(1, 300),
)
def test_whatever_is_fitted_fits_and_nothing_in_it_is_cut(
    history: list[tuple[int, int]], own: list[int], policy: int, wanted: int | None
) -> None:
    room = room_for(wanted, CARD, 16)
    past = [
        stored(10 * number + index, (user, assistant)[index % 2]("h" * size), of_turn=number)
        for number, (count, size) in enumerate(history)
        for index in range(count)
    ]
    fixed = (system("p" * policy),)
    inputs = tuple(Message(role=Role.USER, content=Content("i" * size)) for size in own)
    prompt = fit(Parts(fixed, past, inputs), room, estimate_tokens)
    if isinstance(prompt, Refusal):
        needed = sum(message_tokens(message, estimate_tokens) for message in (*fixed, *inputs))
        assert needed + ANSWER_OVERHEAD_TOKENS + room.completion_tokens_min > room.context_tokens
        return
    middle = prompt.messages[1 : -len(inputs)]
    assert prompt.prompt_tokens + prompt.max_tokens <= room.context_tokens
    assert prompt.max_tokens >= room.completion_tokens_min
    assert prompt.messages[0] == fixed[0]
    assert prompt.messages[-len(inputs) :] == inputs
    assert list(middle) == [one.message for one in past[len(past) - len(middle) :]]
    starts = {0, len(past)} | {i for i in range(1, len(past)) if past[i].turn_id != past[i - 1].turn_id}
    assert len(past) - len(middle) in starts
    counted = sum(message_tokens(message, estimate_tokens) for message in prompt.messages)
    assert prompt.prompt_tokens == counted + ANSWER_OVERHEAD_TOKENS
    assert prompt.dropped_messages == len(past) - len(middle)
