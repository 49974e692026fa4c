"""One Cassandra and one Redis for all tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.support.real_servers import cassandra_with_tables, real_servers
from turnstream.local_stack.stack import Stack
from turnstream.stores.cassandra import CassandraSettings


@pytest.fixture(scope="package")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with real_servers(tmp_path_factory.mktemp("processors"), "cassandra", "redis") as stack:
        yield stack


@pytest.fixture(scope="package")
def settings(servers: Stack) -> CassandraSettings:
    return cassandra_with_tables(servers)
