"""The same bytes for every reader of a turn: the first stream, one that joins, one that resumes, one from the store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from consumers.sse.chat_chunks import DONE
from schemas.cursors import CursorSigner
from schemas.errors import server_error
from schemas.events import CHAT, FinishReason, Turn
from schemas.ids import message_seq
from schemas.ports import AnswerForm, RestForm, StoredAnswer, StoredPiece
from schemas.tokens import Attached, Cleared
from schemas.topics import TURNS_CANCELLED
from tests.support.written_client import WrittenClient
from tests.unit.ingest.edge_world import ACCOUNT, CURSOR_KEY, LIMITS, SSE, USAGE, Stages, pass_time, until
from tests.unit.sse.test_answers import Edge

TEXTS = ("Hel", "lo \u2028", "wörld", "😀")


def cleared_of(turn: Turn) -> Cleared:
    return Cleared(
        turn_id=turn.turn_id,
        conversation_id=turn.conversation_id,
        tenant_id=ACCOUNT.tenant_id,
        user_id=ACCOUNT.user_id,
        model=turn.model,
        stored=turn.stored,
        message_seq=message_seq(0, 2, 0),
        submitted_at_ms=turn.submitted_at_ms,
        limits=LIMITS,
    )


def ends(stages: Stages) -> None:
    stages.clear()
    stages.say(*TEXTS)
    stages.finish()
    if stages.turn.stored:
        stages.persist()


def data_of(body: bytes) -> list[bytes]:
    """The data lines, without the ids of the resume route."""
    return [line for line in body.split(b"\n") if line.startswith(b"data: ")]


def ids_of(body: bytes) -> list[str]:
    return [line.removeprefix(b"id: ").decode() for line in body.split(b"\n") if line.startswith(b"id: ")]


@asynccontextmanager
async def serving(edge: Edge) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(edge.answers.run())
        yield
        running.cancel()


async def resume(edge: Edge, turn: Turn, after: str | int | None, *, usage: bool = False) -> bytes:
    client = WrittenClient()
    signer = CursorSigner(CURSOR_KEY, turn.turn_id, ACCOUNT.tenant_id, ACCOUNT.user_id)
    cursor = signer.verify(after) if isinstance(after, str) else None
    seq = after if isinstance(after, int) else cursor.seq if cursor else None
    reader = await edge.turns.follow(turn.turn_id, cleared=cleared_of(turn), cursor=cursor)
    await edge.answers.resume(cleared_of(turn), reader, client.channel, RestForm(CHAT, seq, usage, with_ids=True))
    assert client.status == 200
    return client.body


@pytest.mark.parametrize("stored", [True, False])
async def test_every_reader_of_a_turn_gets_the_same_bytes(*, stored: bool) -> None:
    edge, first = Edge(SSE), WrittenClient()
    turn = edge.turn(stored=stored)
    async with edge.answering(turn, first) as stages:
        ends(stages)
    async with serving(edge):
        again = WrittenClient()
        reader = await edge.turns.follow(turn.turn_id)
        await edge.answers.answer(turn, reader, again.channel, AnswerForm(stream=True))
        resumed = await resume(edge, turn, None)
    assert again.body == first.body
    assert first.body.endswith(DONE)
    assert data_of(resumed) == data_of(first.body)
    assert resumed.startswith(b"retry: 750\n\n")


async def test_from_every_cursor_the_rest_of_the_bytes() -> None:
    edge, first = Edge(SSE), WrittenClient()
    turn = edge.turn(stored=True)
    async with edge.answering(turn, first) as stages:
        ends(stages)
    lines = data_of(first.body)
    async with serving(edge):
        cursors = ids_of(await resume(edge, turn, None))
        assert len(cursors) == len(TEXTS) + 1
        for have, cursor in enumerate(cursors, start=2):
            assert data_of(await resume(edge, turn, cursor)) == lines[have:]
            assert data_of(await resume(edge, turn, have - 2)) == lines[have:]


async def test_the_store_gives_what_the_log_gave() -> None:
    edge, first = Edge(SSE), WrittenClient()
    turn = edge.turn(stored=True)
    async with edge.answering(turn, first) as stages:
        ends(stages)
    async with serving(edge):
        from_log = await resume(edge, turn, 1, usage=True)
    stored = StoredAnswer(
        turn.turn_id,
        turn.conversation_id,
        ACCOUNT.tenant_id,
        ACCOUNT.user_id,
        turn.model,
        turn.submitted_at_ms,
        tuple(map(StoredPiece, TEXTS)),
        FinishReason.STOP,
        USAGE,
    )
    client = WrittenClient()
    await edge.answers.replay(stored, client.channel, RestForm(CHAT, 1, include_usage=True, with_ids=True))
    without_cursor = [line.split(b',"cursor"')[0] for line in data_of(client.body)]
    assert without_cursor == [line.split(b',"cursor"')[0] for line in data_of(from_log)]
    signer = CursorSigner(CURSOR_KEY, turn.turn_id, ACCOUNT.tenant_id, ACCOUNT.user_id)
    assert [cursor.seq for text in ids_of(client.body) if (cursor := signer.verify(text))] == [2, 3, 4]


async def test_a_resumed_stream_that_fails_says_so() -> None:
    edge = Edge(SSE)
    turn = edge.turn()
    stages = Stages(edge.log, turn)
    stages.clear()
    stages.say("a")
    stages.fail(server_error("No.", "no"))
    async with serving(edge):
        body = await resume(edge, turn, None)
    assert body.count(b'"content":"a"') == 1
    assert b'"code":"no"' in body
    assert DONE not in body


async def test_a_drained_resumed_stream_just_ends_so_that_it_comes_back() -> None:
    edge, client = Edge(SSE), WrittenClient()
    turn = edge.turn()
    stages = Stages(edge.log, turn)
    stages.clear()
    stages.say("a")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(edge.answers.run())
        reader = await edge.turns.follow(turn.turn_id)
        resuming = edge.answers.resume(cleared_of(turn), reader, client.channel, RestForm(CHAT, with_ids=True))
        tasks.create_task(resuming)
        await until(lambda: b'"content":"a"' in client.body)
        await edge.answers.drain(0.1)
        running.cancel()
    assert client.ended
    assert client.body.endswith(b"retry: 750\n\n")
    assert b"error" not in client.body


async def test_done_never_comes_before_history_has_the_answer() -> None:
    limits = {"persisted_seconds_max": 0.05, "heartbeat_seconds": 0.01}
    edge, client = Edge(SSE.model_copy(update=limits)), WrittenClient()
    async with edge.answering(edge.turn(stored=True), client) as stages:
        stages.clear()
        stages.say("a")
        stages.finish()
    assert DONE not in client.body
    assert b'"answer_not_stored_yet"' in client.body
    assert b": ping" in client.body

    whole = WrittenClient()
    edge = Edge(SSE.model_copy(update={"persisted_seconds_max": 0.05}))
    async with edge.answering(edge.turn(stored=True), whole, stream=False) as stages:
        stages.clear()
        stages.finish()
    assert whole.status == 503


async def test_a_turn_that_is_read_elsewhere_is_not_cancelled_when_its_client_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edge, client = Edge(SSE.model_copy(update={"abandon_grace_seconds": 1000.0})), WrittenClient()
    async with edge.answering(edge.turn(), client) as stages:
        stages.clear()
        await until(lambda: bool(client.messages))
        client.leave()
        await until(lambda: not edge.turns.followed(stages.turn.turn_id))
        stages.put(Attached(turn_id=stages.turn.turn_id, edge_id="another"))
        await until(lambda: edge.turns.followed(stages.turn.turn_id))
        pass_time(monkeypatch, 1000)
    assert edge.log.records(TURNS_CANCELLED.name) == []


async def test_a_resumed_stateless_turn_that_is_left_is_cancelled() -> None:
    edge, client = Edge(SSE.model_copy(update={"abandon_grace_seconds": 0.01})), WrittenClient()
    turn = edge.turn()
    Stages(edge.log, turn).clear()
    async with serving(edge):
        reader = await edge.turns.follow(turn.turn_id)
        client.leave()
        await edge.answers.resume(cleared_of(turn), reader, client.channel, RestForm(CHAT, with_ids=True))
        await until(lambda: len(edge.log.records(TURNS_CANCELLED.name)) == 1)


async def test_a_turn_waits_no_longer_once_it_is_fenced_or_left() -> None:
    edge, client = Edge(SSE.model_copy(update={"abandon_grace_seconds": 0.01})), WrittenClient()
    async with edge.answering(edge.turn(), client) as stages:
        assert edge.started == []
        stages.clear()
        await until(lambda: edge.started == [stages.turn.turn_id])
        stages.finish()
    assert len(edge.started) == 1
    async with edge.answering(edge.turn(), left := WrittenClient()) as stages:
        left.leave()
        await until(lambda: len(edge.started) == 2)
        stages.cancel()
