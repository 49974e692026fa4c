"""Conversations on the real stack: branches, added items, titles, deletion, all read right after they were written."""

import asyncio
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from tests.support.full_stack import MODEL, FullStack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


async def call(client: AsyncOpenAI, method: str, path: str, body: Any = None, **query: Any) -> dict[str, Any]:
    options: Any = {"params": query}
    if method == "GET":
        return await client.get(path, cast_to=dict[str, Any], options=options)
    if method == "DELETE":
        return await client.delete(path, cast_to=dict[str, Any], options=options)
    return await client.post(path, cast_to=dict[str, Any], body=body, options=options)


async def ask(client: AsyncOpenAI, text: str, **where: Any) -> ChatCompletion:
    return await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": text}], extra_body=where or {"store": True}
    )


def said(answer: ChatCompletion) -> str:
    return answer.choices[0].message.content or ""


def conversation_of(answer: ChatCompletion) -> str:
    conversation_id = answer.model_dump()["conversation_id"]
    assert isinstance(conversation_id, str)
    return conversation_id


async def items(client: AsyncOpenAI, conversation_id: str, **query: Any) -> list[dict[str, Any]]:
    page = await call(client, "GET", f"/conversations/{conversation_id}/items", order="asc", **query)
    data = page["data"]
    assert isinstance(data, list)
    return data


def texts(listed: list[dict[str, Any]]) -> list[str]:
    return [item["content"][0]["text"] for item in listed]


async def test_an_edit_and_a_second_answer_are_branches_and_nothing_is_lost(client: AsyncOpenAI) -> None:
    first = await ask(client, "My dog is Waldmann.")
    one = conversation_of(first)
    second = await ask(client, "And my cat is Minka.", conversation_id=one)
    before = await items(client, one)
    assert [item["parent_id"] for item in before] == [None, *(item["id"] for item in before[:-1])]
    turn = {"model": MODEL, "content": "And my cat is Mohrle."}
    edited = ChatCompletion.model_validate(
        await call(client, "POST", f"/conversations/{one}/items/{before[2]['id']}/edit", turn)
    )
    assert "- user: My dog is Waldmann." in said(edited)
    assert "Minka" not in said(edited)
    now = await items(client, one)
    assert texts(now) == ["My dog is Waldmann.", said(first), "And my cat is Mohrle.", said(edited)]
    again = ChatCompletion.model_validate(
        await call(client, "POST", f"/conversations/{one}/items/{now[-1]['id']}/regenerate", {"model": MODEL})
    )
    newest = await items(client, one)
    assert texts(newest)[:3] == texts(now)[:3]
    assert (newest[-1]["parent_id"], texts(newest)[3]) == (now[2]["id"], said(again))
    everything = await items(client, one, branch="all")
    assert texts(everything) == [
        *("My dog is Waldmann.", said(first), "And my cat is Minka.", said(second)),
        *("And my cat is Mohrle.", said(edited), said(again)),
    ]
    assert texts(await items(client, one, branch=before[-1]["id"])) == texts(before)
    third = await ask(client, "Who?", conversation_id=one, parent_id=before[-1]["id"])
    assert "- user: And my cat is Minka." in said(third)
    assert "Mohrle" not in said(third)


async def test_items_are_added_by_the_sdk_and_the_next_prompt_has_them(client: AsyncOpenAI) -> None:
    made = await client.conversations.create(
        metadata={"topic": "pets"},
        items=[{"role": "user", "content": "My bird is Hansi."}, {"role": "assistant", "content": "Noted."}],
    )
    shown = await call(client, "GET", f"/conversations/{made.id}")
    assert (shown["title"], shown["metadata"], shown["active_turn_id"]) == (
        "My bird is Hansi.",
        {"topic": "pets"},
        None,
    )
    added = await client.conversations.items.create(made.id, items=[{"role": "user", "content": "It sings."}])
    assert [item.id for item in added.data][-1] == (await items(client, made.id))[-1]["id"]
    answer = await ask(client, "What sings?", conversation_id=made.id)
    assert "I remember this conversation (3 messages before this one)" in said(answer)
    assert [item["status"] for item in await items(client, made.id)] == ["completed"] * 5
    item = await client.conversations.items.retrieve(added.first_id, conversation_id=made.id)
    assert item.type == "message"


async def test_a_deleted_item_is_in_no_prompt_any_more(client: AsyncOpenAI) -> None:
    one = conversation_of(await ask(client, "The password of the demo is Sesam."))
    # The demonstration model repeats what it was told.
    for gone in await items(client, one):
        await client.conversations.items.delete(gone["id"], conversation_id=one)
    assert await items(client, one, branch="all") == []
    later = await ask(client, "What was it?", conversation_id=one)
    assert "Sesam" not in said(later)
    assert texts(await items(client, one)) == ["What was it?", said(later)]


async def test_a_conversation_is_listed_renamed_found_and_deleted(turnstream: FullStack) -> None:
    async with turnstream.client(await turnstream.new_key("free", "lister")) as client:
        old = conversation_of(await ask(client, "How do I bake bread?"))
        new = conversation_of(await ask(client, "What is tea?"))
        listed = await call(client, "GET", "/conversations")
        assert [(one["id"], one["title"]) for one in listed["data"]] == [
            (new, "What is tea?"),
            (old, "How do I bake bread?"),
        ]
        await ask(client, "With rye?", conversation_id=old)
        await call(client, "POST", f"/conversations/{new}", {"title": "Tea time"})
        listed = await call(client, "GET", "/conversations")
        assert [one["title"] for one in listed["data"]] == ["How do I bake bread?", "Tea time"]
        await ask(client, "And coffee?", conversation_id=new)
        found = await call(client, "GET", "/conversations", query="TEA")
        assert [one["id"] for one in found["data"]] == [new]
        await client.conversations.delete(old)
        assert [one["id"] for one in (await call(client, "GET", "/conversations"))["data"]] == [new]
        with pytest.raises(openai.NotFoundError):
            await ask(client, "Still there?", conversation_id=old)
        with pytest.raises(openai.NotFoundError):
            await items(client, old)
        with pytest.raises(openai.NotFoundError):
            await client.conversations.retrieve(old)


async def test_another_device_sees_the_running_turn_and_a_second_one_must_wait(client: AsyncOpenAI) -> None:
    one = conversation_of(await ask(client, "Hello?"))
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "word " * 400}],
        stream=True,
        extra_body={"conversation_id": one},
    )
    first = await anext(aiter(stream))
    shown = await call(client, "GET", f"/conversations/{one}")
    assert shown["active_turn_id"] in {first.id, None}
    async for _ in stream:
        pass
    assert (await call(client, "GET", f"/conversations/{one}"))["active_turn_id"] is None


async def test_additions_at_once_are_all_kept_or_told_to_wait(client: AsyncOpenAI) -> None:
    one = conversation_of(await ask(client, "Hello?"))

    async def add(number: int) -> str | None:
        try:
            added = await client.with_options(max_retries=0).conversations.items.create(
                one, items=[{"role": "user", "content": f"note {number}"}]
            )
        except openai.ConflictError:
            return None
        return added.first_id

    kept = {item_id for item_id in await asyncio.gather(*(add(number) for number in range(5))) if item_id}
    assert kept
    everything = await items(client, one, branch="all")
    assert kept <= {item["id"] for item in everything}
    assert len(everything) == 2 + len(kept)
    assert texts(await items(client, one)) == texts(everything), "they are one branch"
