"""The processors' adapters on a real Cassandra and a real Redis, together with what the others write there."""

import secrets
from collections.abc import AsyncIterator
from typing import Final

import pytest
from redis.asyncio import Redis

from consumers.cassandra_sink.cassandra_rows import CassandraRows
from consumers.cassandra_sink.core import CassandraSinkSettings
from consumers.cassandra_sink.ports import ContextUpdate
from consumers.cassandra_sink.redis_contexts import RedisContexts as SinkContexts
from consumers.cassandra_sink.rows import MessageRow, Status
from producers.accounts.ports import ApiKeyRow
from schemas.accounts import Account, ApiKeyCredential
from schemas.ports import Owner, StoredMessage
from stream_processors.auth.cassandra_accounts import CassandraAccounts
from stream_processors.auth.cassandra_conversations import CassandraConversations
from stream_processors.prompt.cassandra_history import CassandraHistory
from stream_processors.prompt.core import PromptSettings
from stream_processors.prompt.redis_context import RedisContexts
from tests.support.turn_events import NOW_MS, assistant, stored, user
from turnstream.local_stack.stack import Stack
from turnstream.stores.api_keys import create_key_row, revoke_key_rows
from turnstream.stores.cassandra import CassandraSession, CassandraSettings, open_session

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
IN_FLIGHT_MAX: Final = 16
KEYS_MAX: Final = 1_000


@pytest.fixture
async def cql(settings: CassandraSettings) -> AsyncIterator[CassandraSession]:
    async with open_session(settings) as session:
        yield session


@pytest.fixture
async def redis(servers: Stack) -> AsyncIterator[Redis]:
    assert servers.endpoints.redis_url is not None
    async with Redis.from_url(servers.endpoints.redis_url) as client:
        yield client


@pytest.fixture
def conversation() -> str:
    return f"conv_{secrets.token_hex(8)}"


async def test_a_key_is_an_account_until_it_is_revoked(cql: CassandraSession) -> None:
    row = ApiKeyRow(secrets.token_hex(32), secrets.token_hex(4), "acme", "ann", "pro", "laptop", NOW_MS)
    await create_key_row(cql, row)
    keys = CassandraAccounts(cql, IN_FLIGHT_MAX)
    key = ApiKeyCredential(key_hash=row.key_hash)
    before = await keys.accounts([key, ApiKeyCredential(key_hash="0" * 64)])
    await revoke_key_rows(cql, row.key_id, NOW_MS + 1, KEYS_MAX)
    assert before == {row.key_hash: Account(tenant_id="acme", user_id="ann", key_id=row.key_id, plan="pro")}
    assert await keys.accounts([key]) == {}


async def test_a_claimed_conversation_has_its_owner_however_often_it_is_claimed(
    cql: CassandraSession, conversation: str
) -> None:
    conversations = CassandraConversations(cql, IN_FLIGHT_MAX)
    for _ in range(2):
        await conversations.claim({conversation: Owner("acme", "ann")}, NOW_MS)
    assert await conversations.owners([conversation, "conv_unknown"]) == {conversation: Owner("acme", "ann")}


def row_of(conversation: str, message: StoredMessage, status: Status) -> MessageRow:
    return MessageRow(
        conversation_id=conversation,
        message_seq=message.message_seq,
        turn_id=message.turn_id,
        role=message.message.role,
        name=message.message.name,
        content=message.message.content,
        status=status,
        finish_reason=None,
        model="turnstream-fast",
        prompt_tokens=None,
        completion_tokens=None,
        created_at_ms=message.created_at_ms,
        written_us=NOW_MS * 1_000,
    )


async def test_history_is_what_the_sink_wrote_without_drafts(cql: CassandraSession, conversation: str) -> None:
    messages = [stored(10, user("question")), stored(11, assistant("answer"), of_turn=1), stored(20, user("next"))]
    draft = stored(21, assistant("as yet"), of_turn=2)
    rows = [row_of(conversation, message, "complete") for message in messages]
    await CassandraRows(cql).write([*rows, row_of(conversation, draft, "streaming")], [])
    history = CassandraHistory(cql, IN_FLIGHT_MAX)
    assert await history.recent([conversation, "conv_unknown"], 2) == {conversation: messages[1:], "conv_unknown": []}


async def test_what_the_sink_adds_during_and_after_a_rebuild_is_in_the_context(redis: Redis, conversation: str) -> None:
    contexts = RedisContexts(redis, PromptSettings())
    sink = SinkContexts(redis, CassandraSinkSettings(context_messages_max=3, context_ttl_s=60))
    messages = [stored(seq, user(f"message {seq}")) for seq in (10, 20, 30, 40)]
    token = await contexts.begin_rebuild([conversation])
    await sink.refresh([ContextUpdate(conversation, (messages[2],))], ())
    unfinished = await contexts.read([conversation])
    await contexts.finish_rebuild(token, {conversation: messages[:2]})
    whole = await contexts.read([conversation])
    await sink.refresh([ContextUpdate(conversation, (messages[3],))], ())
    assert unfinished == {}
    assert whole == {conversation: messages[:3]}
    assert await contexts.read([conversation]) == {conversation: messages[1:]}


async def test_a_context_that_the_sink_dropped_is_not_published(redis: Redis, conversation: str) -> None:
    contexts = RedisContexts(redis, PromptSettings())
    token = await contexts.begin_rebuild([conversation])
    await SinkContexts(redis, CassandraSinkSettings(context_messages_max=3, context_ttl_s=60)).refresh(
        [], [conversation]
    )
    await contexts.finish_rebuild(token, {conversation: [stored(10, user("stale"))]})
    assert await contexts.read([conversation]) == {}


@pytest.mark.parametrize(
    "text", ["", "\x00", "a\x00b", '"}{\\', "\u202e\ufeff\U0001f600", "x" * 200_000], ids=lambda text: ascii(text)[:12]
)
async def test_every_text_comes_back_as_it_was(
    cql: CassandraSession, redis: Redis, conversation: str, text: str
) -> None:
    message = stored(10, user(text))
    await CassandraRows(cql).write([row_of(conversation, message, "complete")], [])
    assert await CassandraHistory(cql, IN_FLIGHT_MAX).recent([conversation], 2) == {conversation: [message]}
    contexts = RedisContexts(redis, PromptSettings())
    await contexts.finish_rebuild(await contexts.begin_rebuild([conversation]), {conversation: [message]})
    assert await contexts.read([conversation]) == {conversation: [message]}
