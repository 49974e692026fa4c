"""Usage files in a folder or an object store, by fsspec.

A file appears complete or not at all: in a folder it is written under a hidden name, flushed to the disk and renamed;
an object store shows an object when it has all of it. Nothing that is there is ever changed.
"""

import asyncio
import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

import fsspec
from fsspec.implementations.local import LocalFileSystem

from consumers.usage_sink.core import Folder, Line, OffsetRange, UsageFile, by_folder, files_to_write, range_in_name
from consumers.usage_sink.parquet_rows import parquet_bytes
from schemas.errors import Fatal, Retryable
from schemas.ports import TopicPartition

# Here an object is there when all of it is, and a rename would be a copy. Elsewhere a rename is what is atomic.
OBJECT_STORES: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "memory"})
_TEMPORARY_SUFFIX: Final = ".tmp"


class FsspecLake:
    """The ``UsageLake`` at ``url``. Raises Fatal for a URL that nothing installed here can open."""

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        try:
            self._files, self._root = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError) as error:
            raise Fatal(f"usage_sink.url cannot be opened: {error}") from error

    async def prepare(self) -> None:
        """Make the folder where folders are made. Raises Fatal when it cannot be made or listed."""
        try:
            await asyncio.to_thread(self._prepare)
        except OSError as error:
            raise Fatal(f"usage_sink.url cannot be used: {type(error).__name__}") from error

    async def publish(self, partition: TopicPartition, lines: Sequence[Line]) -> int:
        """Write what is not there yet of ``lines``, in log order; returns the rows written. Raises Retryable."""
        try:
            return await asyncio.to_thread(self._publish, partition, lines)
        except OSError as error:
            raise Retryable(f"the usage files could not be written ({type(error).__name__})") from error

    def _prepare(self) -> None:
        if not self._is_object_store:
            self._files.makedirs(self._root, exist_ok=True)
        self._names(self._root)

    def _publish(self, partition: TopicPartition, lines: Sequence[Line]) -> int:
        published = {folder: self._published(partition, folder) for folder in by_folder(lines)}
        files = files_to_write(partition, lines, published)
        for file in files:
            self._put(file)
        return sum(len(file.lines) for file in files)

    def _published(self, partition: TopicPartition, folder: Folder) -> list[OffsetRange]:
        names = self._names(f"{self._root}/{folder.path}")
        return [found for name in names if (found := range_in_name(name, partition)) is not None]

    def _names(self, folder: str) -> list[str]:
        # Another owner may have written a moment ago: no listing from a cache.
        self._files.invalidate_cache(folder)
        try:
            paths: list[str] = self._files.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        return [path.rstrip("/").rpartition("/")[2] for path in paths]

    def _put(self, file: UsageFile) -> None:
        folder, content = f"{self._root}/{file.folder.path}", parquet_bytes(file)
        if self._is_object_store:
            self._files.pipe_file(f"{folder}/{file.name}", content)
            return
        self._files.makedirs(folder, exist_ok=True)
        # Readers of Parquet folders pass over names that begin with a dot.
        temporary = f"{folder}/.{file.name}.{secrets.token_hex(4)}{_TEMPORARY_SUFFIX}"
        if isinstance(self._files, LocalFileSystem):
            _write_and_rename(folder, file.name, temporary, content)
        else:
            self._files.pipe_file(temporary, content)
            self._files.mv(temporary, f"{folder}/{file.name}")

    @property
    def _is_object_store(self) -> bool:
        protocol = self._files.protocol
        return not OBJECT_STORES.isdisjoint((protocol,) if isinstance(protocol, str) else protocol)


def _write_and_rename(folder: str, name: str, temporary: str, content: bytes) -> None:
    try:
        with open(temporary, "wb") as file:  # noqa: PTH123 - fsspec's paths are text
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, os.path.join(folder, name))  # noqa: PTH105, PTH118 - the same
    except OSError:
        _forget(temporary)
        raise
    _flush_folder(folder)


def _forget(path: str) -> None:
    try:
        os.unlink(path)  # noqa: PTH108 - fsspec's paths are text
    except FileNotFoundError:
        return


def _flush_folder(folder: str) -> None:
    handle: Any = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
