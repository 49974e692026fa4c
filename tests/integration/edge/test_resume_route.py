"""GET /v1/chat/completions/{id}/stream: who may read what of a turn, and from where."""

import asyncio
import re
from collections.abc import AsyncIterator

import httpx2
import pytest

from consumers.cassandra_sink.rows import MessageRow, TurnRow
from schemas import ids
from schemas.content import Content
from schemas.cursors import CursorSigner
from schemas.events import FinishReason, Turn
from schemas.messages import Role
from schemas.ports import TopicPartition
from schemas.topics import TOKENS
from tests.unit.ingest.edge_world import (
    ACCOUNT,
    CURSOR_KEY,
    KEY,
    OTHER_ACCOUNT,
    OTHER_KEY,
    USAGE,
    EdgeWorld,
    answer_hello,
    running_edge,
    until,
)

PATH = "/v1/chat/completions"
TURN = {"model": "turnstream-fast", "messages": [{"role": "user", "content": "Hello?"}], "stream": True}


def http(edge: EdgeWorld, key: str = KEY.text) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=edge.url, headers={"authorization": f"Bearer {key}"}, timeout=10)


@pytest.fixture
async def edge() -> AsyncIterator[EdgeWorld]:
    async with running_edge() as running:
        yield running


async def ask(edge: EdgeWorld, **fields: object) -> httpx2.Response:
    async with http(edge) as client:
        return await client.post(PATH, json=TURN | fields)


async def resume(edge: EdgeWorld, public_id: str, user: str = KEY.text, **asked: str) -> httpx2.Response:
    last_event_id = asked.pop("last_event_id", None)
    headers = {"accept": "text/event-stream"}
    if last_event_id is not None:
        headers["last-event-id"] = last_event_id
    async with http(edge, user) as client:
        return await client.get(f"{PATH}/{public_id}/stream", params=asked, headers=headers)


def data_of(response: httpx2.Response) -> list[str]:
    return [line for line in response.text.split("\n") if line.startswith("data: ")]


def without_cursors(response: httpx2.Response) -> list[str]:
    """The store does not know where on the log the records lay."""
    return [re.sub(r',"cursor":"[^"]*"', "", line) for line in data_of(response)]


def ids_of(response: httpx2.Response) -> list[str]:
    return [line.removeprefix("id: ") for line in response.text.split("\n") if line.startswith("id: ")]


@pytest.mark.parametrize("store", [True, False])
async def test_the_rest_after_each_cursor_at_either_edge(edge: EdgeWorld, *, store: bool) -> None:
    first = await ask(edge, store=store)
    public_id = first.headers["x-request-id"]
    async with running_edge(beside=edge) as other:
        whole = await resume(other, public_id)
        assert data_of(whole) == data_of(first)
        assert "id: " not in first.text
        for have, cursor in enumerate(ids_of(whole), start=2):
            for where in (edge, other):
                assert data_of(await resume(where, public_id, starting_after=cursor)) == data_of(first)[have:]
                assert data_of(await resume(where, public_id, starting_after=str(have - 2))) == data_of(first)[have:]
        middle = ids_of(whole)[0]
        assert data_of(await resume(other, public_id, last_event_id=middle)) == data_of(first)[2:]
    assert {name for name, _ in other.metrics.counts if "resumed" in name} == {"turnstream_streams_resumed_total"}


async def test_an_event_source_that_has_all_is_told_to_stop(edge: EdgeWorld) -> None:
    public_id = (await ask(edge, store=True)).headers["x-request-id"]
    last = ids_of(await resume(edge, public_id))[-1]
    assert (await resume(edge, public_id, last_event_id=last)).status_code == 204
    assert data_of(await resume(edge, public_id, starting_after=last)) == ["data: [DONE]"]


async def test_several_readers_follow_a_running_turn() -> None:
    async with running_edge(lambda _: None) as edge, running_edge(beside=edge) as other, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(ask(edge))
        await until(lambda: bool(edge.stages))
        stages = edge.stages[0]
        public_id = ids.public_turn_id(stages.turn.turn_id)
        # One that asks before the turn is cleared is made to wait for that.
        readers = [tasks.create_task(resume(each, public_id)) for each in (edge, other)]
        answer_hello(stages)
        bodies = {"\n".join(data_of(await reader)) for reader in (*readers, first)}
        assert len(bodies) == 1


@pytest.mark.parametrize("text", ["x", "1.2.x", "-1", "1.2.AAAAAAAAAAAAAAAA", "9" * 11, "1." + "9" * 80])
async def test_a_forged_place_is_404_before_anything_is_read(edge: EdgeWorld, text: str) -> None:
    public_id = (await ask(edge)).headers["x-request-id"]
    read = edge.log.ranges_read
    for asked in ({"starting_after": text}, {"last_event_id": text}):
        response = await resume(edge, public_id, **asked)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "completion_not_found")
    assert edge.log.ranges_read == read


async def test_foreign_turns_and_cursors_are_404(edge: EdgeWorld) -> None:
    public_id = (await ask(edge)).headers["x-request-id"]
    cursor = ids_of(await resume(edge, public_id))[0]
    turn_id = ids.parse_turn_id(public_id)
    forged = CursorSigner(b"0" * 32, turn_id, ACCOUNT.tenant_id, ACCOUNT.user_id).sign(0, 0)
    own = CursorSigner(CURSOR_KEY, turn_id, OTHER_ACCOUNT.tenant_id, OTHER_ACCOUNT.user_id).sign(0, 0)
    for user, asked in ((OTHER_KEY, {}), (OTHER_KEY, {"starting_after": cursor}), (OTHER_KEY, {"starting_after": own})):
        assert (await resume(edge, public_id, user.text, **asked)).status_code == 404
    assert (await resume(edge, public_id, starting_after=forged)).status_code == 404
    other_turn = (await ask(edge)).headers["x-request-id"]
    assert (await resume(edge, other_turn, starting_after=cursor)).status_code == 404
    async with httpx2.AsyncClient(base_url=edge.url) as nobody:
        assert (await nobody.get(f"{PATH}/{public_id}/stream")).status_code == 401


@pytest.mark.parametrize(
    "turn_id", ["x", "0" * 26, ids.new_turn_id(1, 999, bytes(8)), ids.new_turn_id(1 << 47, 1, bytes(8))]
)
async def test_unknown_turns_are_404(edge: EdgeWorld, turn_id: str) -> None:
    assert (await resume(edge, ids.public_turn_id(turn_id))).status_code == 404
    async with http(edge) as client:
        assert (await client.post(f"{PATH}/{turn_id}/cancel")).status_code == 404


async def test_a_turn_that_the_log_has_forgotten_comes_from_the_store(edge: EdgeWorld) -> None:
    first = await ask(edge, store=True)
    public_id = first.headers["x-request-id"]
    whole = await resume(edge, public_id)
    turn = edge.submitted[0].turn
    await edge.stored.write([answer_row(turn)], [], [turn_row(turn)])
    partition = TopicPartition(TOKENS.name, ids.turn_partition(turn.turn_id))
    edge.log.expire(partition, edge.log.end(partition))
    edge.log.now_ms += 60_000
    replayed = await resume(edge, public_id)
    assert without_cursors(replayed) == without_cursors(first)
    for cursor in (ids_of(whole)[1], ids_of(replayed)[1]):
        rest = await resume(edge, public_id, last_event_id=cursor)
        assert without_cursors(rest) == without_cursors(first)[3:]
    assert (await resume(edge, public_id, last_event_id=ids_of(whole)[-1])).status_code == 204
    assert (await resume(edge, public_id, OTHER_KEY.text)).status_code == 404


def turn_row(turn: Turn) -> TurnRow:
    return TurnRow(
        turn_id=turn.turn_id,
        conversation_id=turn.conversation_id,
        tenant_id=ACCOUNT.tenant_id,
        user_id=ACCOUNT.user_id,
        model="turnstream-fast",
        answer_seq=513,
        piece_chars=(3, 2, 1),
        finish_reason=FinishReason.STOP,
        usage=USAGE,
        submitted_at_ms=turn.submitted_at_ms,
        written_us=1,
    )


def answer_row(turn: Turn) -> MessageRow:
    return MessageRow(
        conversation_id=turn.conversation_id,
        message_seq=513,
        turn_id=turn.turn_id,
        role=Role.ASSISTANT,
        name=None,
        content=Content("Hello!"),
        status="complete",
        finish_reason=FinishReason.STOP,
        model="turnstream-fast",
        prompt_tokens=7,
        completion_tokens=3,
        created_at_ms=1,
        written_us=1,
    )


async def test_a_running_turn_is_cancelled_from_anywhere_and_every_reader_ends() -> None:
    def begin(stages: object) -> None:
        del stages

    async with running_edge(begin) as edge, running_edge(begin, beside=edge) as other, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(ask(edge))
        await until(lambda: bool(edge.stages))
        stages = edge.stages[0]
        public_id = ids.public_turn_id(stages.turn.turn_id)
        stages.clear()
        stages.say("Hel")
        second = tasks.create_task(resume(other, public_id))
        await until(lambda: other.turns.state(stages.turn.turn_id) is not None)
        async with http(other, OTHER_KEY.text) as stranger:
            assert (await stranger.post(f"{PATH}/{public_id}/cancel")).status_code == 404
        async with http(other) as client:
            cancelled = await client.post(f"{PATH}/{public_id}/cancel")
        assert cancelled.json()["cancelled"] is True
        assert data_of(await first) == data_of(await second)
        assert data_of(await first)[-1] == "data: [DONE]"
