"""One Cassandra and one Redis for all tests of this folder."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.real_servers import real_servers
from turnstream.local_stack.stack import Stack
from turnstream.stores.cassandra import CassandraSettings
from turnstream.stores.tables import create_tables


@pytest.fixture(scope="package")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with real_servers(tmp_path_factory.mktemp("processors"), "cassandra", "redis") as stack:
        yield stack


@pytest.fixture(scope="package")
def settings(servers: Stack) -> CassandraSettings:
    assert servers.endpoints.cassandra is not None
    host, port = servers.endpoints.cassandra
    made = CassandraSettings(contact_points=(host,), port=port)
    # In a thread: whoever asks for it first may be a fixture in a running event loop.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(create_tables(made))).result()
    return made
