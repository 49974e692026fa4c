"""What the sink stores of the tree, of titles, and of messages that wanted no answer."""

from collections.abc import Sequence

import pytest

from consumers.cassandra_sink.titles import TITLE_CHARS_MAX, title_of
from schemas.content import Content
from schemas.events import NO_PARENT
from schemas.ids import message_seq
from schemas.messages import Message, Role, ToolCall
from schemas.tokens import Cleared, Persisted
from tests.support.answer_records import answer, cleared, delta, failed, fence, finished
from tests.unit.sink.sink_world import Sink


def opened(number: int, **changes: object) -> Cleared:
    return cleared(number).model_copy(update=changes)


def parents(sink: Sink) -> list[tuple[int, int | None]]:
    return [(row.message_seq, row.parent_seq) for row in sink.rows.messages()]


async def test_the_messages_of_a_turn_follow_one_another() -> None:
    sink = Sink()
    first = cleared(1, inputs=2).model_copy(update={"parent_seq": 7})
    await sink.take(first, fence(1), delta(1, 0, "x"), finished(1, 1))
    seqs = [message_seq(0, 1, index) for index in range(3)]
    assert parents(sink) == [(seqs[0], 7), (seqs[1], seqs[0]), (seqs[2], seqs[1])]


async def test_an_answer_given_again_follows_the_stored_question() -> None:
    sink = Sink()
    again = opened(2, input=(), parent_seq=3, answers_seq=4)
    await sink.take(again, fence(2), delta(2, 0, "x"), finished(2, 1))
    assert parents(sink) == [(message_seq(0, 2, 0), 4)]


async def test_an_answer_given_again_that_failed_leaves_nothing_and_is_over() -> None:
    sink = Sink()
    sink.contexts.warm("c1")
    await sink.take(opened(2, input=(), parent_seq=3, answers_seq=4), fence(2), failed(2))
    assert sink.rows.messages() == []
    assert [type(event) for event in sink.log.appended] == [Persisted]


async def test_a_hot_context_knows_the_parents() -> None:
    sink = Sink()
    sink.contexts.warm("c1")
    await sink.take(opened(1, parent_seq=NO_PARENT), *answer(1, "x")[1:])
    question, reply = sorted(sink.contexts.hot["c1"].values(), key=lambda stored: stored.message_seq)
    assert (question.parent_seq, reply.parent_seq) == (NO_PARENT, question.message_seq)


async def test_messages_that_want_no_answer_are_complete_without_one() -> None:
    call = ToolCall(id="call_1", name="look", arguments=Content("{}"))
    messages = (
        Message(role=Role.ASSISTANT, content=Content(""), tool_calls=(call,)),
        Message(role=Role.TOOL, content=Content("found"), tool_call_id="call_1"),
    )
    sink = Sink()
    sink.contexts.warm("c1")
    await sink.take(opened(1, input=messages, wants_answer=False, parent_seq=NO_PARENT), fence(1), finished(1, 0))
    assert [(row.role, row.status) for row in sink.rows.messages()] == [
        (Role.ASSISTANT, "complete"),
        (Role.TOOL, "complete"),
    ]
    assert [stored.message for stored in sink.contexts.hot["c1"].values()] == list(messages)
    assert [type(event) for event in sink.log.appended] == [Persisted]


async def test_the_first_turn_names_the_conversation_and_no_later_one_does() -> None:
    sink = Sink()
    await sink.take(opened(1, parent_seq=NO_PARENT), *answer(1, "x")[1:])
    await sink.take(opened(2, parent_seq=NO_PARENT), *answer(2, "x")[1:])
    await sink.take(opened(3, parent_seq=5), *answer(3, "x")[1:])
    assert sink.rows.titles() == {"c1": "question 1.0"}


async def test_whoever_writes_last_the_first_turn_names_the_conversation() -> None:
    sink = Sink()
    await sink.take(opened(2, parent_seq=NO_PARENT), *answer(2, "x")[1:])
    await sink.take(opened(1, parent_seq=NO_PARENT), *answer(1, "x")[1:])
    assert sink.rows.titles() == {"c1": "question 1.0"}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["How do  I\tbake bread?\nI have rye."], "How do I bake bread?"),
        (["\n \n  two\n"], "two"),
        (["\u202e\x00", "second"], "second"),
        ([""], None),
        ([], None),
        (["word " * 30], "word " * 11 + "word\N{HORIZONTAL ELLIPSIS}"),
        (["x" * 61], "x" * 59 + "\N{HORIZONTAL ELLIPSIS}"),
        (["x" * 60], "x" * 60),
    ],
)
def test_a_title_is_the_first_line_of_the_first_question(texts: Sequence[str], expected: str | None) -> None:
    messages = [Message(role=Role.SYSTEM, content=Content("be kind"))]
    messages += [Message(role=Role.USER, content=Content(text)) for text in texts]
    title = title_of(messages)
    assert title == expected
    assert title is None or len(title) <= TITLE_CHARS_MAX
