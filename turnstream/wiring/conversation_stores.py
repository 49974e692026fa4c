"""The stores of the conversations API, for the edge."""

from redis.asyncio import Redis

from consumers.cassandra_sink.ports import HotContexts
from consumers.cassandra_sink.redis_contexts import RedisContexts
from producers.conversations.ports import ConversationPorts
from schemas.ports import Cql
from turnstream.settings import Settings
from turnstream.stores.active_turns import CassandraActiveTurns
from turnstream.stores.conversations import CassandraConversationRecords
from turnstream.stores.message_tree import CassandraMessageTree


class DroppedContexts:
    """``ContextDrops`` on the hot contexts as the sink sees them."""

    def __init__(self, contexts: HotContexts) -> None:
        self._contexts = contexts

    async def drop(self, conversation_id: str) -> None:
        """As ``ContextDrops.drop``."""
        await self._contexts.refresh((), (conversation_id,))


def conversation_stores(cql: Cql, redis: Redis, settings: Settings) -> ConversationPorts:
    """What the conversations API reads and writes, in Cassandra and Redis."""
    return ConversationPorts(
        records=CassandraConversationRecords(cql),
        tree=CassandraMessageTree(cql),
        contexts=DroppedContexts(RedisContexts(redis, settings.sink)),
        active=CassandraActiveTurns(cql),
    )
