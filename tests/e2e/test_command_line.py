"""The command line in processes of its own, beside the running stack and from nothing."""

import json
import os

import openai
import pytest
from openai import AsyncOpenAI

from tests.support.full_stack import MODEL, FullStack, eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MARK = "TURNSTREAM_E2E_MARK"
DEMO_SECONDS_MAX = 100.0
UNKNOWN_TURN = "chatcmpl-01" + "0" * 24


def test_status_shows_every_part_ready(turnstream: FullStack) -> None:
    told = turnstream.command("status", "--json")
    record = json.loads(told.stdout)
    names = {"kafka", "cassandra", "redis", "triton", *(row.part_name for row in turnstream.stack.options.processes)}
    assert told.returncode == 0
    assert {part["name"]: part["state"] for part in record["parts"]} == dict.fromkeys(names, "ready")
    assert record["base_url"] == turnstream.base_url
    assert turnstream.command("status").returncode == 0


def test_a_second_start_in_the_same_home_is_refused(turnstream: FullStack) -> None:
    for arguments in (("up",), ("up", "--detach")):
        refused = turnstream.command(*arguments)
        assert (refused.returncode, refused.stdout) == (4, "")
        assert refused.stderr.startswith(f"error: already running (pid {os.getpid()}, ready)")
        assert len(refused.stderr.splitlines()) == 1


def test_chat_answers_an_argument_and_a_pipe(turnstream: FullStack) -> None:
    asked = turnstream.command("chat", "What is a partition?")
    piped = turnstream.command("chat", "--last", piped="And a segment?\n")
    assert (asked.returncode, piped.returncode) == (0, 0)
    assert '(4 words): "What is a partition?"' in asked.stdout
    assert '(3 words): "And a segment?"' in piped.stdout
    assert "- user: What is a partition?" in piped.stdout


async def test_chat_continues_a_conversation(turnstream: FullStack, client: AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Begun by the SDK."}], store=True
    )
    conversation_id = completion.model_dump()["conversation_id"]
    continued = turnstream.command("chat", "--conversation", conversation_id, "Continued by hand.")
    assert continued.returncode == 0
    assert "- user: Begun by the SDK." in continued.stdout


def test_chat_tells_a_refusal_in_its_exit_code(turnstream: FullStack) -> None:
    refused = turnstream.command("chat", "turnstream-blocked-phrase")
    nobody = turnstream.command("chat", "Hello?", environ={"TURNSTREAM_API_KEY": "ts-nonsense"})
    foreign = turnstream.command("chat", "--conversation", "conv_" + "0" * 26, "Hello?")
    assert [one.returncode for one in (refused, nobody, foreign)] == [1, 1, 1]
    assert "400" in refused.stderr
    assert "401" in nobody.stderr
    assert "404" in foreign.stderr


async def test_trace_tells_the_way_of_a_turn(turnstream: FullStack, client: AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Trace me, canarybird."}], store=True
    )
    told = turnstream.command("trace", completion.id, "--json")
    report = json.loads(told.stdout)
    assert told.returncode == 0
    assert (report["model"], report["decision"], report["persisted"]) == (MODEL, "allowed", True)
    assert [stage["stage"] for stage in report["stages"]][:2] == ["auth", "rate_limit"]
    assert len(report["attempts"]) == 1
    assert completion.usage is not None
    assert report["usage"]["completion_tokens"] == completion.usage.completion_tokens
    assert "canarybird" not in told.stdout
    assert turnstream.command("trace", UNKNOWN_TURN).returncode == 4


def test_topics_are_as_planned(turnstream: FullStack) -> None:
    told = turnstream.command("topics", "--json")
    rows = json.loads(told.stdout)
    assert told.returncode == 0
    assert {row["state"] for row in rows} == {"ok"}
    assert {"chat.tokens.v1", "usage.events.v1", "chat.turns.submitted.v1.dlq"} <= {row["name"] for row in rows}


def test_logs_show_a_part(turnstream: FullStack) -> None:
    told = turnstream.command("logs", "edge", "--lines", "3")
    lines = told.stdout.splitlines()
    assert (told.returncode, len(lines)) == (0, 3)
    assert all(line.startswith("edge | ") for line in lines)


async def test_a_revoked_key_stops_working(turnstream: FullStack) -> None:
    key = turnstream.command("keys", "create", "--user", "ruth", "--tenant", "acme", "--label", "to go").stdout.strip()
    key_id = key.split("-")[1]
    listed = turnstream.command("keys", "list").stdout
    async with turnstream.client(key) as ruth:
        await ruth.models.list()
        assert (await ask(ruth)) is None
        revoked = turnstream.command("keys", "revoke", key_id)

        async def refused() -> bool:
            return (await ask(ruth)) is not None

        async def unlisted() -> bool:
            try:
                await ruth.models.list()
            except openai.AuthenticationError:
                return True
            return False

        await eventually(refused)
        # The edge remembers keys by itself.
        await eventually(unlisted)
    assert (revoked.returncode, revoked.stdout) == (0, "revoked\n")
    assert key_id in listed
    assert key.split("-")[2] not in listed
    assert turnstream.command("keys", "revoke", "nonsense").returncode == 4


async def ask(client: AsyncOpenAI) -> openai.AuthenticationError | None:
    """One turn; the error when the key is not known (any more)."""
    try:
        await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "[[demo tokens=1 first_ms=0]] Still there?"}]
        )
    except openai.AuthenticationError as error:
        return error
    return None
