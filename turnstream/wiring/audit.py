"""The audit trail of one command."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from producers.audit.trail import AuditTrail
from schemas.ports import Producer
from turnstream.audit.actor import Actor, key_actor, login_actor
from turnstream.clocks import now_ms
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.settings import Settings


async def find_actor(settings: Settings) -> Actor:
    """Who operates. Raises NotAllowedError, Retryable, Fatal."""
    key = settings.operations.operator_key
    if key is None:
        return login_actor()
    from stream_processors.auth.cassandra_accounts import CassandraAccounts  # noqa: PLC0415
    from turnstream.stores.cassandra import open_session  # noqa: PLC0415  # the driver comes with an extra

    async with open_session(settings.cassandra) as cql:
        accounts = CassandraAccounts(cql, settings.auth.statements_in_flight_max)
        return await key_actor(key.get_secret_value(), settings.pepper_bytes, accounts, now_ms())


def audit_trail(producer: Producer, actor: Actor) -> AuditTrail:
    """The trail of ``actor`` on ``producer``."""
    return AuditTrail(producer, actor.name, secrets.token_bytes, now_ms)


@asynccontextmanager
async def open_trail(settings: Settings) -> AsyncIterator[AuditTrail]:
    """The trail of whoever operates, on a producer of its own. Raises NotAllowedError, Retryable, Fatal."""
    actor = await find_actor(settings)
    async with KafkaProducer(settings.kafka) as producer:
        yield audit_trail(producer, actor)
