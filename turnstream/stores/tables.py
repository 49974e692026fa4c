"""Creates the keyspace and the tables of ``schemas/tables.cql``; run again, it changes nothing."""

from importlib.resources import files

from schemas.errors import Fatal
from turnstream.stores.cassandra import CassandraSettings, open_session

_SCHEMA_FILE = "tables.cql"


def schema_statements(text: str, keyspace: str, replication: str) -> tuple[str, ...]:
    """The statements of a CQL file, in order: comments gone, ``{keyspace}`` and ``{replication}`` filled in.

    A statement ends with a semicolon. Raises Fatal when text is left over after the last one.
    """
    lines = (line.partition("--")[0] for line in text.splitlines())
    *statements, rest = "\n".join(lines).split(";")
    if rest.strip():
        raise Fatal(f"{_SCHEMA_FILE}: the last statement has no semicolon")
    return tuple(
        statement.replace("{keyspace}", keyspace).replace("{replication}", replication).strip()
        for statement in statements
    )


def replication(settings: CassandraSettings) -> str:
    """The replication map of the keyspace, as CQL."""
    return f"{{'class': 'NetworkTopologyStrategy', '{settings.local_dc}': {settings.replication_factor}}}"


async def create_tables(settings: CassandraSettings) -> None:
    """Create what does not exist yet. Each statement is bounded by ``schema_seconds_max``.

    Raises Retryable when Cassandra does not answer (run it again), Fatal when it rejects a statement.
    """
    text = files("schemas").joinpath(_SCHEMA_FILE).read_text(encoding="utf-8")
    async with open_session(settings) as session:
        for statement in schema_statements(text, settings.keyspace, replication(settings)):
            await session.change_schema(statement)
