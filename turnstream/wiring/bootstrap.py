"""What must exist before the first process starts: topics, tables and, for development, a key."""

from producers.http.api_keys import ApiKey
from turnstream.clocks import now_ms
from turnstream.log.kafka_topics import create_topics
from turnstream.settings import Settings
from turnstream.stores.cassandra import open_session
from turnstream.stores.tables import create_tables
from turnstream.wiring.development_key import admit_development_key
from turnstream.wiring.topics import planned_topics


async def bootstrap(settings: Settings, development_key: ApiKey | None) -> tuple[str, ...]:
    """Create what is missing and admit the key; returns the names of the topics created. Raises Fatal, Retryable."""
    created = await create_topics(settings.kafka, planned_topics(settings))
    await create_tables(settings.cassandra)
    if development_key is not None:
        async with open_session(settings.cassandra) as cql:
            await admit_development_key(cql, development_key, settings.pepper_bytes, now_ms())
    return created
