"""What a redrive needs, on the real stores."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from producers.audit.reading import read_actions
from producers.redrive.ports import RedrivePorts
from schemas.errors import Fatal
from schemas.ports import LogReader
from schemas.topics import TOKENS
from stream_processors.auth.cassandra_conversations import CassandraConversations
from turnstream.clocks import now_ms
from turnstream.dead_letters.reading import AUDIT_LOOKS_BACK_MS
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.log.kafka_topics import describe_topics
from turnstream.log.turn_lookup import LogTurnLookup
from turnstream.settings import Settings
from turnstream.stores.active_turns import CassandraActiveTurns
from turnstream.stores.cassandra import open_session
from turnstream.wiring.audit import audit_trail, find_actor
from turnstream.wiring.topics import planned_topics


@asynccontextmanager
async def open_redrive(settings: Settings, reader: LogReader) -> AsyncIterator[RedrivePorts]:
    """The ports of a redrive by whoever operates. Raises NotAllowedError, Retryable, Fatal."""
    actor = await find_actor(settings)
    tokens = [
        state
        for state in await describe_topics(settings.kafka, planned_topics(settings))
        if state.plan.name == TOKENS.name
    ]
    if not tokens or tokens[0].partitions is None:
        raise Fatal("the topics do not exist: `turnstream topics --create`")
    async with AsyncExitStack() as open_ports:
        producer = await open_ports.enter_async_context(KafkaProducer(settings.kafka))
        cql = await open_ports.enter_async_context(open_session(settings.cassandra))
        yield RedrivePorts(
            producer=producer,
            reader=reader,
            trail=audit_trail(producer, actor),
            actions=lambda: read_actions(reader, max(0, now_ms() - AUDIT_LOOKS_BACK_MS)),
            turns=LogTurnLookup(reader, settings.lookup),
            conversations=CassandraConversations(cql, settings.auth.statements_in_flight_max),
            active=CassandraActiveTurns(cql),
            now_ms=now_ms,
            wait=asyncio.sleep,
            tokens_partitions=tokens[0].partitions,
        )
