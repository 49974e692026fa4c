"""The statements that make the tables, and small conversions."""

from datetime import UTC, datetime
from importlib.resources import files

import pytest

from schemas.errors import Fatal
from schemas.timestamps import unix_ms
from turnstream.stores.cassandra import CassandraSettings
from turnstream.stores.tables import replication, schema_statements


def test_the_contract_splits_into_statements_that_can_be_repeated() -> None:
    text = files("schemas").joinpath("tables.cql").read_text(encoding="utf-8")
    statements = schema_statements(text, "ks", replication(CassandraSettings()))
    assert statements[0].startswith("CREATE KEYSPACE IF NOT EXISTS ks WITH replication = {'class':")
    assert len(statements) == text.count("CREATE ") + text.count("ALTER ")
    assert all(" IF NOT EXISTS ks" in one for one in statements if one.startswith("CREATE "))
    assert all(" ks." in one and " ADD IF NOT EXISTS (" in one for one in statements if one.startswith("ALTER "))
    assert not any("--" in statement or "{keyspace}" in statement for statement in statements)


def test_a_statement_without_its_end_is_found() -> None:
    with pytest.raises(Fatal, match="semicolon"):
        schema_statements("CREATE TABLE a; CREATE TABLE b", "ks", "{}")


def test_replication_is_by_data_centre() -> None:
    settings = CassandraSettings(local_dc="east", replication_factor=3)
    assert replication(settings) == "{'class': 'NetworkTopologyStrategy', 'east': 3}"


@pytest.mark.parametrize("keyspace", ["", "Upper", "a-b", "a;DROP", "a" * 49])
def test_a_keyspace_that_is_no_name_is_refused(keyspace: str) -> None:
    with pytest.raises(ValueError, match="keyspace"):
        CassandraSettings(keyspace=keyspace)


@pytest.mark.parametrize("moment_ms", [0, 1, 1_700_000_000_123, 4_102_444_800_999])
def test_milliseconds_survive_the_driver(moment_ms: int) -> None:
    seconds, ms = divmod(moment_ms, 1000)
    naive = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None, microsecond=ms * 1000)
    assert unix_ms(naive) == moment_ms
