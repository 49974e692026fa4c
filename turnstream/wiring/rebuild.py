"""``turnstream replay rebuild`` over the real stores."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from consumers.cassandra_sink.cassandra_restore import CassandraRestore
from consumers.cassandra_sink.rebuild import RebuildAnswers
from consumers.cassandra_sink.redis_contexts import RedisContexts
from producers.replay.plan import Plan
from schemas.ports import LogReader
from turnstream.clocks import now_ms
from turnstream.settings import Settings
from turnstream.stores.cassandra import open_session
from turnstream.wiring.redis_client import open_redis


@asynccontextmanager
async def open_rebuild(
    settings: Settings, reader: LogReader, plan: Plan, *, restore_owners: bool
) -> AsyncIterator[RebuildAnswers]:
    """A rebuild of what ``plan`` means. Raises Retryable when a store cannot be reached."""
    async with AsyncExitStack() as open_ports:
        cql = await open_ports.enter_async_context(open_session(settings.cassandra))
        redis = await open_ports.enter_async_context(open_redis(settings.redis))
        yield RebuildAnswers(
            store=CassandraRestore(cql),
            contexts=RedisContexts(redis, settings.sink),
            log=reader,
            settings=settings.sink,
            stops={planned.partition: planned.stop for planned in plan.ranges},
            now_ms=now_ms,
            restore_owners=restore_owners,
        )
