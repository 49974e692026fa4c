"""What must exist before the first process starts: topics, tables and, for development, a key."""

from turnstream.log.kafka_topics import create_topics
from turnstream.settings import Settings
from turnstream.stores.tables import create_tables
from turnstream.wiring.topics import planned_topics


async def bootstrap(settings: Settings) -> tuple[str, ...]:
    """Create topics and tables that are missing; returns the names of the topics created. Raises Fatal, Retryable."""
    created = await create_topics(settings.kafka, planned_topics(settings))
    await create_tables(settings.cassandra)
    return created
