"""What ``StoredAnswers`` keeps of what the sink wrote, in memory and in Cassandra."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from consumers.cassandra_sink.cassandra_rows import CassandraRows
from consumers.cassandra_sink.ports import ConversationRows
from consumers.cassandra_sink.rows import MessageRow, TurnRow
from schemas.content import Content
from schemas.events import FinishReason, Usage
from schemas.messages import Role
from schemas.ports import StoredAnswer, StoredAnswers
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
        pieces=("k", "", "äse🧀", "\n\x00"),
        finish_reason=FinishReason.STOP,
        usage=USAGE,
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
    assert found.pieces == ("he", "llo")


async def test_writing_again_or_late_changes_nothing(answers: Answers) -> None:
    row = turn((5,))
    for written in (row, row, replace(row, piece_chars=(1, 1), written_us=9)):
        await answers.rows.write([message(row, "hello")], [], [written])
    found = await answers.stored.find(row.turn_id)
    assert found is not None
    assert found.pieces == ("hello",)


async def test_a_long_answer_comes_back(answers: Answers) -> None:
    row = turn((1,) * 20_000)
    await answers.rows.write([message(row, "x" * 20_000)], [], [row])
    found = await answers.stored.find(row.turn_id)
    assert found is not None
    assert len(found.pieces) == 20_000
