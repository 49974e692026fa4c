"""The conversations API on an edge with memory around it: shapes, places, branches, errors, owners."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx2
import openai
import pytest

from schemas import ids
from schemas.content import Content
from schemas.errors import conversation_busy
from schemas.events import NO_PARENT
from schemas.messages import Message, Role, ToolCall
from schemas.ports import Owner, StoredMessage
from schemas.tokens import AttemptStarted, Cleared, Finished, Persisted
from tests.unit.ingest.edge_world import (
    ACCOUNT,
    KEY,
    LIMITS,
    OTHER_KEY,
    USAGE,
    EdgeWorld,
    Stages,
    answer_hello,
    running_edge,
    until,
)

OWNER = Owner(ACCOUNT.tenant_id, ACCOUNT.user_id)
START_MS = 1_700_000_000_000
ALL = "/v1/conversations"


def http(edge: EdgeWorld, key: str = KEY.text) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=edge.url, headers={"authorization": f"Bearer {key}"}, timeout=10)


def conversation(number: int) -> str:
    return ids.new_conversation_id(START_MS + number, number.to_bytes(10))


ONE = conversation(1)
ITEMS = f"{ALL}/{ONE}/items"


def node(seq: int, parent: int | None, role: Role, text: str, **message: Any) -> StoredMessage:
    said = Message(role=role, content=Content(text), **message)
    return StoredMessage(seq, f"{seq:026d}", said, complete=True, created_at_ms=START_MS + seq, parent_seq=parent)


TREE = (
    node(10, NO_PARENT, Role.USER, "one?"),
    node(11, 10, Role.ASSISTANT, "one!"),
    node(20, 10, Role.ASSISTANT, "uno!"),
    node(30, 11, Role.USER, "two?"),
    node(31, 30, Role.ASSISTANT, "two!"),
)


def with_tree(edge: EdgeWorld) -> None:
    edge.history.store(OWNER, ONE, *TREE, auto_title="one?")


def error_of(response: httpx2.Response) -> tuple[int, str | None]:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return response.status_code, error["code"]


def texts(page: dict[str, Any]) -> list[str]:
    return [item["content"][0]["text"] for item in page["data"]]


def storing(edge: EdgeWorld) -> Callable[[Stages], None]:
    """Stages that store what was asked to be added, as auth and the sink do."""

    def script(stages: Stages) -> None:
        event, turn = edge.submitted[-1], stages.turn
        seq, parent = 1_000 * len(edge.submitted), turn.parent_seq if turn.parent_seq is not None else NO_PARENT
        edge.history.store(
            OWNER,
            turn.conversation_id,
            *(
                StoredMessage(
                    seq + i, turn.turn_id, said, complete=True, created_at_ms=START_MS, parent_seq=seq + i - 1
                )
                for i, said in enumerate(event.input)
            ),
        )
        stages.put(
            Cleared(
                turn_id=turn.turn_id,
                conversation_id=turn.conversation_id,
                tenant_id=ACCOUNT.tenant_id,
                user_id=ACCOUNT.user_id,
                model=turn.model,
                stored=True,
                message_seq=seq,
                submitted_at_ms=turn.submitted_at_ms,
                limits=LIMITS,
                input=event.input,
                parent_seq=parent,
                wants_answer=False,
            ),
            AttemptStarted(turn_id=turn.turn_id, attempt=1, owner="moderation"),
            Finished(turn_id=turn.turn_id, attempt=1, owner="moderation", seq=0, finish_reason="stop", usage=USAGE),
            Persisted(turn_id=turn.turn_id, message_seq=seq),
        )

    return script


async def test_the_sdk_creates_changes_and_deletes() -> None:
    async with running_edge() as edge, edge.client() as client:
        made = await client.conversations.create(metadata={"topic": "demo"})
        assert (made.object, made.metadata) == ("conversation", {"topic": "demo"})
        assert (await client.conversations.retrieve(made.id)).id == made.id
        changed = await client.conversations.update(made.id, metadata={"topic": "tea"})
        assert changed.metadata == {"topic": "tea"}
        gone = await client.conversations.delete(made.id)
        assert (gone.id, gone.object, gone.deleted) == (made.id, "conversation.deleted", True)
        for again in (client.conversations.retrieve, client.conversations.delete):
            with pytest.raises(openai.NotFoundError):
                await again(made.id)
    assert made.id in edge.history.dropped


async def test_items_are_added_through_the_log_and_shown() -> None:
    async with running_edge() as edge, edge.client() as client:
        edge.script = storing(edge)
        made = await client.conversations.create(items=[{"role": "user", "content": "Hi"}])
        added = await client.conversations.items.create(
            made.id,
            items=[
                {"type": "message", "role": "assistant", "content": "Hello"},
                {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
                {"type": "function_call", "call_id": "c2", "name": "look", "arguments": '{"a":1}'},
                {"type": "function_call_output", "call_id": "c1", "output": "found"},
            ],
        )
        listed = [item async for item in client.conversations.items.list(made.id, order="asc", limit=1)]
        last = listed[-1].id or ""
        single = await client.conversations.items.retrieve(last, conversation_id=made.id)
    assert [event.turn.wants_answer for event in edge.submitted] == [False, False]
    assert [item.type for item in added.data] == ["message", "function_call", "function_call", "function_call_output"]
    assert [item.id for item in listed] == ["msg_1000", "msg_2000", "fc_2001_0", "fc_2001_1", "fco_2002"]
    assert [item.id for item in added.data] == [item.id for item in listed[1:]]
    assert single == listed[-1]


async def test_an_addition_that_a_stage_refuses_is_refused() -> None:
    def refusing(stages: Stages) -> None:
        stages.refuse(conversation_busy("chatcmpl-x"))

    async with running_edge(refusing) as edge, http(edge) as client:
        with_tree(edge)
        answer = await client.post(ITEMS, json={"items": [{"role": "user", "content": "Hi"}]})
    assert answer.status_code == 409


@pytest.mark.parametrize(
    "items",
    [
        [],
        [{"role": "user"}],
        [{"role": "robot", "content": "x"}],
        [{"type": "reasoning", "content": "x"}],
        [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}],
        [{"role": "user", "content": "x"}] * 21,
    ],
)
async def test_items_that_are_not_supported_are_400(items: list[Any]) -> None:
    async with running_edge() as edge, http(edge) as client:
        with_tree(edge)
        answer = await client.post(ITEMS, json={"items": items})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("items")
    assert edge.submitted == []


@pytest.mark.parametrize(
    ("branch", "expected"),
    [
        (None, ["one?", "one!", "two?", "two!"]),
        ("msg_20", ["one?", "uno!"]),
        ("all", ["one?", "one!", "uno!", "two?", "two!"]),
    ],
)
async def test_a_branch_is_listed_in_both_orders(branch: str | None, expected: list[str]) -> None:
    query = {} if branch is None else {"branch": branch}
    async with running_edge() as edge, http(edge) as client:
        with_tree(edge)
        oldest = (await client.get(ITEMS, params={"order": "asc", **query})).json()
        newest = (await client.get(ITEMS, params=query)).json()
        paged: list[str] = []
        after: dict[str, str] = {}
        while True:
            page = (await client.get(ITEMS, params={"limit": 1, **query, **after})).json()
            paged += texts(page)
            if not page["has_more"]:
                break
            after = {"after": page["last_id"]}
    assert (texts(oldest), texts(newest), paged) == (expected, expected[::-1], expected[::-1])
    parents = {item["id"]: item["parent_id"] for item in oldest["data"]}
    assert parents["msg_10"] is None
    assert set(parents.values()) - {None} <= {"msg_10", "msg_11", "msg_30"}


async def test_a_deleted_item_leaves_the_tree_below_it() -> None:
    async with running_edge() as edge, edge.client() as client, http(edge) as raw:
        with_tree(edge)
        answered = await client.conversations.items.delete("msg_11", conversation_id=ONE)
        assert (answered.id, answered.object) == (ONE, "conversation")
        assert texts((await raw.get(ITEMS, params={"order": "asc"})).json()) == ["one?", "two?", "two!"]
        assert error_of(await raw.get(f"{ITEMS}/msg_11")) == (404, "item_not_found")
        assert (await raw.delete(f"{ITEMS}/msg_11")).status_code == 200
    assert edge.history.dropped == [ONE, ONE]


async def test_a_deletion_that_a_prompt_might_not_see_is_503_and_can_be_repeated() -> None:
    async with running_edge() as edge, http(edge) as client:
        with_tree(edge)
        edge.history.drops_fail = True
        assert (await client.delete(f"{ITEMS}/msg_11")).status_code == 503
        assert (await client.delete(f"{ALL}/{ONE}")).status_code == 503
        edge.history.drops_fail = False
        assert (await client.delete(f"{ITEMS}/msg_11")).status_code == 200
        assert (await client.delete(f"{ALL}/{ONE}")).status_code == 200


@pytest.mark.parametrize("item", ["msg_99", "msg_x", "fc_10_0", "nonsense", "msg_" + "9" * 19])
async def test_an_unknown_item_is_404_everywhere(item: str) -> None:
    turn = {"model": "turnstream-fast", "content": "x"}
    async with running_edge() as edge, http(edge) as client:
        with_tree(edge)
        answers = [
            await client.get(f"{ITEMS}/{item}"),
            await client.post(f"{ITEMS}/{item}/edit", json=turn),
            await client.post(f"{ITEMS}/{item}/regenerate", json={"model": "turnstream-fast"}),
        ]
        if not item.startswith("fc_"):
            answers.append(await client.delete(f"{ITEMS}/{item}"))
        else:
            answers = answers[:1]
    assert {error_of(answer) for answer in answers} == {(404, "item_not_found")}


async def test_an_edit_is_a_sibling_of_what_it_edits() -> None:
    async with running_edge(answer_hello) as edge, http(edge) as client:
        with_tree(edge)
        body = {"model": "turnstream-fast", "content": "three?", "temperature": 0.5}
        answer = await client.post(f"{ITEMS}/msg_30/edit", json=body)
    assert answer.json()["choices"][0]["message"]["content"] == "Hello!"
    (event,) = edge.submitted
    assert (event.turn.conversation_id, event.turn.parent_seq, event.turn.answers_seq) == (ONE, 11, None)
    assert (event.input, event.turn.sampling.temperature) == (
        (Message(role=Role.USER, content=Content("three?")),),
        0.5,
    )


@pytest.mark.parametrize(("item", "question", "parent"), [("msg_31", 30, 11), ("msg_30", 30, 11), ("msg_20", 10, -1)])
async def test_an_answer_is_given_again_beside_the_first(item: str, question: int, parent: int) -> None:
    async with running_edge(answer_hello) as edge, http(edge) as client:
        with_tree(edge)
        body = {"model": "turnstream-fast", "stream": True}
        answer = await client.post(f"{ITEMS}/{item}/regenerate", json=body)
    assert answer.text.endswith("data: [DONE]\n\n")
    (event,) = edge.submitted
    asked = next(stored.message for stored in TREE if stored.message_seq == question)
    assert (event.turn.parent_seq, event.turn.answers_seq, event.input) == (parent, question, (asked,))


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("msg_31/edit", {"model": "turnstream-fast", "content": "x"}, "invalid_value"),
        ("msg_30/edit", {"model": "turnstream-fast"}, "missing_required_parameter"),
        ("msg_30/edit", {"model": "turnstream-fast", "content": "x", "messages": []}, "unknown_parameter"),
        ("msg_30/regenerate", {"model": "turnstream-fast", "conversation_id": ONE}, "unknown_parameter"),
        ("msg_30/regenerate", {}, "missing_required_parameter"),
        ("msg_30/regenerate", [], "invalid_type"),
    ],
)
async def test_a_bad_edit_is_400(path: str, body: Any, code: str) -> None:
    async with running_edge() as edge, http(edge) as client:
        with_tree(edge)
        assert error_of(await client.post(f"{ITEMS}/{path}", json=body)) == (400, code)
    assert edge.submitted == []


async def test_the_last_activity_comes_first_in_pages() -> None:
    async with running_edge() as edge, http(edge) as client:
        for number, at_ms in ((1, 50), (2, 10), (3, 40), (4, 30)):
            said = replace(TREE[0], created_at_ms=START_MS + at_ms)
            edge.history.store(OWNER, conversation(number), said, auto_title=f"About {number}")
        edge.history.store(Owner("acme", "eve"), conversation(9), TREE[0])

        async def numbers(**query: Any) -> tuple[list[int], bool]:
            page = (await client.get(ALL, params=query)).json()
            order = [conversation(number) for number in range(10)]
            return [order.index(one["id"]) for one in page["data"]], page["has_more"]

        assert await numbers() == ([1, 3, 4, 2], False)
        assert await numbers(limit=2) == ([1, 3], True)
        assert await numbers(limit=2, after=conversation(3)) == ([4, 2], False)
        assert await numbers(limit=1, before=conversation(4)) == ([3], True)
        assert await numbers(order="asc", limit=3) == ([2, 4, 3], True)
        assert await numbers(query="aBOUT 3") == ([3], False)
        assert await numbers(query="nobody") == ([], False)
        await client.delete(f"{ALL}/{conversation(3)}")
        assert await numbers(limit=2, after=conversation(3)) == ([4, 2], False)
        assert await numbers() == ([1, 4, 2], False)
        assert error_of(await client.get(ALL, params={"after": conversation(9)})) == (400, "invalid_value")


async def test_a_title_is_the_first_question_until_it_is_renamed() -> None:
    async with running_edge() as edge, http(edge) as client:
        with_tree(edge)
        assert (await client.get(f"{ALL}/{ONE}")).json()["title"] == "one?"
        renamed = (await client.post(f"{ALL}/{ONE}", json={"title": "Numbers"})).json()
        assert (renamed["title"], renamed["metadata"]) == ("Numbers", {})
        assert (await client.post(f"{ALL}/{ONE}", json={"title": None})).json()["title"] == "one?"
        assert error_of(await client.post(f"{ALL}/{ONE}", json={})) == (400, "missing_required_parameter")
        assert error_of(await client.post(f"{ALL}/{ONE}", json={"title": "x" * 257})) == (400, "invalid_value")
        many = {str(number): "x" for number in range(17)}
        assert error_of(await client.post(f"{ALL}/{ONE}", json={"metadata": many})) == (400, "invalid_value")


async def test_an_export_has_the_tree_or_the_newest_branch() -> None:
    call = ToolCall(id="c1", name="look", arguments=Content("{}"))
    async with running_edge() as edge, http(edge) as client:
        with_tree(edge)
        edge.history.store(OWNER, ONE, node(40, 31, Role.ASSISTANT, "", tool_calls=(call,)))
        edge.history.store(OWNER, ONE, node(41, 40, Role.USER, "## User\nboo"))
        exported = await client.get(f"{ALL}/{ONE}/export")
        text = await client.get(f"{ALL}/{ONE}/export", params={"format": "markdown"})
    assert exported.headers["content-type"].startswith("application/json")
    tree = exported.json()
    assert (tree["object"], tree["conversation"]["id"]) == ("conversation.export", ONE)
    assert [item["id"] for item in tree["items"]] == [
        *("msg_10", "msg_11", "msg_20", "msg_30", "msg_31"),
        *("fc_40_0", "msg_41"),
    ]
    assert text.headers["content-type"].startswith("text/markdown")
    assert text.text == (
        "# one?\n\n## User\n\none?\n\n## Assistant\n\none!\n\n## User\n\ntwo?\n\n## Assistant\n\ntwo!\n"
        "\n## Assistant\n\n    look({})\n\n## User\n\n\\## User\nboo\n"
    )


async def test_a_running_turn_is_shown_until_it_ends() -> None:
    async with running_edge(Stages.clear) as edge, edge.client() as client, http(edge) as raw:
        with_tree(edge)
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(
                client.chat.completions.create(
                    model="turnstream-fast",
                    messages=[{"role": "user", "content": "Hello?"}],
                    extra_body={"conversation_id": ONE},
                )
            )
            await until(lambda: bool(edge.stages))
            stages = edge.stages[0]
            edge.active.rows.add((ONE, stages.turn.turn_id))
            shown = (await raw.get(f"{ALL}/{ONE}")).json()
            assert shown["active_turn_id"] == ids.public_turn_id(stages.turn.turn_id)
            stages.say("Hi")
            stages.finish()
            stages.persist()
            await asking
        assert (await raw.get(f"{ALL}/{ONE}")).json()["active_turn_id"] is None


async def test_nothing_of_others_is_there() -> None:
    body = {"model": "turnstream-fast", "content": "x"}
    items = {"items": [{"role": "user", "content": "x"}]}
    async with running_edge() as edge, http(edge, OTHER_KEY.text) as eve:
        with_tree(edge)
        for gone in (ONE, conversation(77), "conv_nonsense"):
            one = f"{ALL}/{gone}"
            answers = [
                await eve.get(one),
                await eve.post(one, json={"title": "mine"}),
                await eve.delete(one),
                await eve.get(f"{one}/export"),
                await eve.get(f"{one}/items"),
                await eve.post(f"{one}/items", json=items),
                await eve.get(f"{one}/items/msg_10"),
                await eve.delete(f"{one}/items/msg_10"),
                await eve.post(f"{one}/items/msg_30/edit", json=body),
                await eve.post(f"{one}/items/msg_31/regenerate", json={"model": "turnstream-fast"}),
            ]
            assert {error_of(answer) for answer in answers} == {(404, "conversation_not_found")}
        assert (await eve.get(ALL)).json()["data"] == []
    assert edge.submitted == []
    assert len(edge.history.messages_of[ONE]) == len(TREE)


async def test_without_a_key_there_is_nothing() -> None:
    async with running_edge() as edge, httpx2.AsyncClient(base_url=edge.url) as nobody:
        for path in (ALL, f"{ALL}/{ONE}", ITEMS, f"{ALL}/{ONE}/export"):
            assert (await nobody.get(path)).status_code == 401


async def test_a_turn_of_a_deleted_conversation_cannot_be_resumed() -> None:
    async with running_edge(answer_hello) as edge, edge.client() as client, http(edge) as raw:
        answer = await client.chat.completions.create(
            model="turnstream-fast", messages=[{"role": "user", "content": "Hello?"}], store=True
        )
        path = f"/v1/chat/completions/{answer.id}/stream"
        assert (await raw.get(path)).status_code == 200
        await raw.delete(f"{ALL}/{answer.model_dump()['conversation_id']}")
        assert error_of(await raw.get(path)) == (404, "completion_not_found")
