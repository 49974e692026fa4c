"""What ``StoredAnswers`` keeps of what the sink wrote, in memory and in Cassandra."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from consumers.cassandra_sink.cassandra_rows import CassandraRows
from consumers.cassandra_sink.ports import ConversationRows
from consumers.cassandra_sink.rows import MessageRow, TurnRow
from schemas.answer_extras import split
from schemas.content import Content
from schemas.events import CHAT, FinishReason, Usage
from schemas.generation import TokenLogprob, ToolCallDelta
from schemas.messages import Role
from schemas.ports import StoredAnswer, StoredAnswers, StoredPiece
from schemas.tokens import Delta
from tests.contract.stores.conftest import KINDS
from tests.support.memory_stores import MemoryRows
from turnstream.stores.cassandra import open_session
from turnstream.stores.stored_answers import CassandraStoredAnswers

USAGE = Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=2)


@dataclass(frozen=True)
class Answers:
    """Rows as the sink writes them, answers as the edge reads them."""

    rows: ConversationRows
    stored: StoredAnswers


@pytest.fixture(params=KINDS)
async def answers(request: pytest.FixtureRequest) -> AsyncIterator[Answers]:
    if request.param == "memory":
        memory = MemoryRows()
        yield Answers(memory, memory)
        return
    async with open_session(request.getfixturevalue("cassandra_settings")) as session:
        yield Answers(CassandraRows(session), CassandraStoredAnswers(session))


def turn(chars: tuple[int, ...], usage: Usage | None = USAGE) -> TurnRow:
    return TurnRow(
        turn_id=f"turn-{secrets.token_hex(8)}",
        conversation_id=f"conv_{secrets.token_hex(8)}",
        tenant_id="tenant",
        user_id="user",
        model="model",
        answer_seq=(1 << 62) + 1,
        piece_chars=chars,
        finish_reason=FinishReason.STOP,
        usage=usage,
        submitted_at_ms=1_700_000_000_123,
        written_us=10,
    )


def message(of: TurnRow, text: str) -> MessageRow:
    return MessageRow(
        conversation_id=of.conversation_id,
        message_seq=of.answer_seq,
        turn_id=of.turn_id,
        role=Role.ASSISTANT,
        name=None,
        content=Content(text),
        status="complete",
        finish_reason=of.finish_reason,
        model=of.model,
        prompt_tokens=7,
        completion_tokens=3,
        created_at_ms=1_700_000_000_456,
        written_us=of.written_us,
    )


async def test_an_answer_comes_back_in_its_pieces(answers: Answers) -> None:
    row = turn((1, 0, 4, 2))
    await answers.rows.write([message(row, "käse🧀\n\x00")], [], [row])
    assert await answers.stored.find(row.turn_id) == StoredAnswer(
        turn_id=row.turn_id,
        conversation_id=row.conversation_id,
        tenant_id="tenant",
        user_id="user",
        model="model",
        submitted_at_ms=row.submitted_at_ms,
        pieces=tuple(map(StoredPiece, ("k", "", "äse🧀", "\n\x00"))),
        finish_reason=FinishReason.STOP,
        usage=USAGE,
        answer_seq=row.answer_seq,
    )


@pytest.mark.parametrize("reason", [FinishReason.CANCELLED, FinishReason.FAILED])
async def test_a_turn_without_any_text_has_no_pieces(answers: Answers, reason: FinishReason) -> None:
    row = replace(turn((), usage=None), finish_reason=reason)
    await answers.rows.write([], [], [row])
    found = await answers.stored.find(row.turn_id)
    assert found is not None
    assert (found.pieces, found.finish_reason, found.usage) == ((), reason, None)


async def test_an_unknown_turn_is_not_found(answers: Answers) -> None:
    await answers.rows.write([], [], [turn(())])
    assert await answers.stored.find("turn-unknown") is None


async def test_a_turn_whose_text_is_not_there_or_another_is_not_found(answers: Answers) -> None:
    without, other = turn((2, 3)), turn((2, 3))
    await answers.rows.write([message(other, "hell")], [], [without, other])
    assert await answers.stored.find(without.turn_id) is None
    assert await answers.stored.find(other.turn_id) is None
    await answers.rows.write([message(other, "hello")], [])
    found = await answers.stored.find(other.turn_id)
    assert found is not None
    assert found.pieces == (StoredPiece("he"), StoredPiece("llo"))


async def test_writing_again_or_late_changes_nothing(answers: Answers) -> None:
    row = turn((5,))
    for written in (row, row, replace(row, piece_chars=(1, 1), written_us=9)):
        await answers.rows.write([message(row, "hello")], [], [written])
    found = await answers.stored.find(row.turn_id)
    assert found is not None
    assert found.pieces == (StoredPiece("hello"),)


async def test_a_long_answer_comes_back(answers: Answers) -> None:
    row = turn((1,) * 20_000)
    await answers.rows.write([message(row, "x" * 20_000)], [], [row])
    found = await answers.stored.find(row.turn_id)
    assert found is not None
    assert len(found.pieces) == 20_000


async def test_tool_calls_choices_and_log_probabilities_come_back(answers: Answers) -> None:
    call = ToolCallDelta(index=0, id="call_1", name="weather", arguments=Content('{"town":"Köln\u2028"}'))
    likely = TokenLogprob(token=Content("Hi"), logprob=-0.5)
    extras = [
        split(delta(0, "Hi", logprobs=(likely,))),
        split(delta(1, "Ho", choice=1)),
        split(delta(2, "", tool_calls=(call,))),
    ]
    row = replace(
        turn(tuple(len(text) for text, _ in extras)),
        extras=Content("".join(extra for _, extra in extras)),
        api="responses",
        request=Content('{"metadata":{}}'),
        choices=2,
        choice_reasons=(FinishReason.TOOL_CALLS, FinishReason.STOP),
    )
    await answers.rows.write([message(row, "Hi")], [], [row])
    found = await answers.stored.find(row.turn_id)
    assert found is not None
    assert found.pieces == (
        StoredPiece("Hi", logprobs=(likely,)),
        StoredPiece("Ho", choice=1),
        StoredPiece("", tool_calls=(call,)),
    )
    assert (found.api, found.request, found.choices, found.choice_reasons) == (
        "responses",
        row.request,
        2,
        row.choice_reasons,
    )


async def test_a_deleted_turn_is_not_found_and_stays_deleted(answers: Answers) -> None:
    row = turn((5,))
    await answers.rows.write([message(row, "hello")], [], [row])
    found = await answers.stored.find(row.turn_id)
    assert found is not None
    assert not await answers.stored.deleted(row.turn_id)
    await answers.stored.delete(found)
    await answers.rows.write([message(row, "hello")], [], [row])
    assert await answers.stored.find(row.turn_id) is None
    assert await answers.stored.deleted(row.turn_id)


async def test_metadata_is_what_was_said_last(answers: Answers) -> None:
    row = turn((5,))
    await answers.rows.write([message(row, "hello")], [], [row])
    await answers.stored.set_metadata(row.turn_id, {"topic": "ä"})
    found = await answers.stored.find(row.turn_id)
    assert found is not None
    assert found.metadata == {"topic": "ä"}


async def test_a_users_turns_come_in_pages_in_either_order(answers: Answers) -> None:
    user = f"user-{secrets.token_hex(4)}"
    rows = [replace(turn((5,)), user_id=user) for _ in range(3)]
    await answers.rows.write([message(row, "hello") for row in rows], [], rows)
    ids = sorted(row.turn_id for row in rows)
    owner = ("tenant", user)
    assert await answers.stored.of_user(owner, CHAT, None, 2, newest_first=True) == ids[:0:-1]
    assert await answers.stored.of_user(owner, CHAT, ids[0], 9, newest_first=False) == ids[1:]
    assert await answers.stored.of_user(owner, "responses", None, 9, newest_first=True) == []
    assert [stored.turn_id for stored in await answers.stored.find_all(ids)] == ids


def delta(seq: int, text: str, **more: Any) -> Delta:
    return Delta(turn_id="t", attempt=1, owner="gpu", seq=seq, content=Content(text), tokens=1, **more)
