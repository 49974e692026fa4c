"""The usage files as DuckDB reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import fsspec
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import Fatal, Malformed
from turnstream.usage_reports import queries


class NoFiles(Exception):
    """There are no usage files there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a query."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class UsageFiles:
    """An in-memory database whose views are the files at ``url``. Nothing in it can change them.

    Raises Fatal for a URL that cannot be opened, and NoFiles for one without usage.
    """

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        files, location = _place(url, options)
        self._database = duckdb.connect()
        if not isinstance(files, LocalFileSystem):
            self._database.register_filesystem(files)
        try:
            self._database.execute(queries.views(location))
        except (duckdb.IOException, OSError) as error:
            if "No files found" in str(error) or isinstance(error, FileNotFoundError):
                raise NoFiles(url) from None
            # An object store's own words may name accounts.
            raise Fatal(f"{url} cannot be read ({type(error).__name__})") from None

    def ask(self, sql: str) -> Answer:
        """The rows of one query. Raises Malformed, with the place, for what DuckDB does not take."""
        try:
            found = self._database.execute(sql)
            return Answer([column[0] for column in found.description or ()], found.fetchall())
        except duckdb.Error as error:
            raise Malformed(str(error)) from None


def make_views(url: str, options: Mapping[str, str]) -> str:
    """The SQL of the views of the files at ``url``, which are not looked at. Raises Fatal as above."""
    return queries.views(_place(url, options)[1])


def _place(url: str, options: Mapping[str, str]) -> tuple[Any, str]:
    """The file system, and how DuckDB is told of the folder in it."""
    try:
        files, root = fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        raise Fatal(f"{url} cannot be opened: {error}") from error
    return files, root if isinstance(files, LocalFileSystem) else files.unstrip_protocol(root)
