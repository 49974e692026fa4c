"""Real servers for integration and contract tests: a private run of the local stack in a temporary folder."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from turnstream.local_stack.plan import StackOptions
from turnstream.local_stack.settings import StackSettings
from turnstream.local_stack.stack import Stack
from turnstream.stores.cassandra import CassandraSettings
from turnstream.stores.tables import create_tables


@contextmanager
def real_servers(home: Path, *servers: str) -> Iterator[Stack]:
    """The named servers of the local stack, ready; gone afterwards.

    Jars are looked for where the environment says (`TURNSTREAM_STACK__JARS`), else in the checkout's own stack.
    """
    shared = StackSettings()
    settings = StackSettings(home=home, jars=shared.layout().jars)
    with Stack(settings, StackOptions(servers=servers, processes=(), bootstrap=None)) as stack:
        yield stack


def cassandra_with_tables(stack: Stack) -> CassandraSettings:
    """Where the stack's Cassandra is, once our tables are in it."""
    assert stack.endpoints.cassandra is not None
    host, port = stack.endpoints.cassandra
    settings = CassandraSettings(contact_points=(host,), port=port)
    # In a thread: whoever asks for it first may be a fixture in a running event loop.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(create_tables(settings))).result()
    return settings
