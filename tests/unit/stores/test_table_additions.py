"""A table that is older than the schema file gets the columns that it lacks."""

from importlib.resources import files

from turnstream.stores.tables import additions, schema_statements

TABLE = """
CREATE TABLE IF NOT EXISTS {keyspace}.things (
    owner text, -- whose it is, and no column
    thing_id text,
    sizes frozen<map<text, int>>,
    names list<text>,
    PRIMARY KEY ((owner), thing_id)
) WITH CLUSTERING ORDER BY (thing_id DESC);
"""
STATEMENTS = schema_statements(TABLE, "ks", "{}")


def test_only_what_is_missing_is_added() -> None:
    there = {"things": frozenset({"owner", "thing_id", "names"})}
    assert additions(STATEMENTS, there) == ("ALTER TABLE ks.things ADD IF NOT EXISTS (sizes frozen<map<text, int>>)",)


def test_a_whole_table_and_one_that_is_not_there_are_left_alone() -> None:
    assert additions(STATEMENTS, {"things": frozenset({"owner", "thing_id", "sizes", "names"})}) == ()
    assert additions(STATEMENTS, {}) == ()


def test_every_column_of_every_table_is_known() -> None:
    text = files("schemas").joinpath("tables.cql").read_text(encoding="utf-8")
    statements = schema_statements(text, "ks", "{}")
    tables = [statement for statement in statements if statement.startswith("CREATE TABLE")]
    names = {table.split("ks.")[1].split(" ")[0]: frozenset[str]() for table in tables}
    altered = additions(statements, names)
    assert len(altered) == len(tables)
    for table, alteration in zip(tables, altered, strict=True):
        lines = [line.strip() for line in table.splitlines()[1:] if line.startswith("    ")]
        declared = {line.split(" ")[0] for line in lines if line and not line.startswith("PRIMARY KEY")}
        added = alteration.split("(", 1)[1]
        assert all(f"{name} " in added for name in declared), alteration
