"""Creates the keyspace and the tables of ``schemas/tables.cql``; run again, it adds the columns that a table lacks."""

import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Final

from schemas.errors import Fatal
from schemas.ports import Cql
from turnstream.stores.cassandra import CassandraSettings, open_session

_SCHEMA_FILE: Final = "tables.cql"
_CREATE: Final = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)\.(\w+) \((.*)\)", re.DOTALL)
_COLUMN: Final = re.compile(r"\s*(\w+) ([a-z][\w<>, ]*?)( PRIMARY KEY)?")
_COLUMNS: Final = "SELECT table_name, column_name FROM system_schema.columns WHERE keyspace_name = ?"
# A comma between columns, not one inside the brackets of a type or a key.
_BETWEEN_COLUMNS: Final = re.compile(r",(?![^<(]*[>)])")


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


def additions(statements: Iterable[str], there: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """The statements that add to tables that are ``there`` (names of columns by table) what they lack. Pure."""
    altered: list[str] = []
    for statement in statements:
        created = _CREATE.match(statement)
        if created is None or created[2] not in there:
            continue
        columns = _columns(created[3])
        missing = {name: kind for name, kind in columns.items() if name not in there[created[2]]}
        if missing:
            added = ", ".join(f"{name} {kind}" for name, kind in missing.items())
            altered.append(f"ALTER TABLE {created[1]}.{created[2]} ADD IF NOT EXISTS ({added})")
    return tuple(altered)


def replication(settings: CassandraSettings) -> str:
    """The replication map of the keyspace, as CQL."""
    return f"{{'class': 'NetworkTopologyStrategy', '{settings.local_dc}': {settings.replication_factor}}}"


async def create_tables(settings: CassandraSettings) -> None:
    """Create what does not exist yet. Each statement is bounded by ``schema_seconds_max``.

    Raises Retryable when Cassandra does not answer (run it again), Fatal when it rejects a statement.
    """
    text = files("schemas").joinpath(_SCHEMA_FILE).read_text(encoding="utf-8")
    statements = schema_statements(text, settings.keyspace, replication(settings))
    async with open_session(settings) as session:
        for statement in statements:
            await session.change_schema(statement)
        for statement in additions(statements, await _columns_there(session, settings.keyspace)):
            await session.change_schema(statement)


async def _columns_there(cql: Cql, keyspace: str) -> Mapping[str, frozenset[str]]:
    there: dict[str, set[str]] = {}
    for row in await cql.execute(_COLUMNS, (keyspace,)):
        there.setdefault(row.table_name, set()).add(row.column_name)
    return {table: frozenset(names) for table, names in there.items()}


def _columns(body: str) -> Mapping[str, str]:
    """The columns of a table, each with its type; the primary key is none."""
    parts = (" ".join(part.split()) for part in _BETWEEN_COLUMNS.split(body))
    found = (_COLUMN.fullmatch(part) for part in parts if not part.startswith("PRIMARY KEY"))
    return {column[1]: column[2] for column in found if column is not None}
