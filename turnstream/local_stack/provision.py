"""Brings the pinned jars onto this machine: in parallel, verified, and safe to interrupt at any moment."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.error import HTTPError
from urllib.request import urlopen

import jgo.constants
import stamina

from turnstream.local_stack.errors import ProvisioningError
from turnstream.local_stack.jars import Jar

DOWNLOADS_MAX: Final = 8
ATTEMPTS_MAX: Final = 3
READ_S_MAX: Final = 30.0
_CHUNK_BYTES: Final = 256 * 1024
_SERVER_ERROR: Final = 500
_TOO_MANY_REQUESTS: Final = 429

OnBytes = Callable[[int], None]
"""Called with the number of bytes that just arrived, negative when they have to come again; from several threads."""


class _StoppedError(Exception):
    """Ends a download that nobody waits for any more."""


def missing(jars: Iterable[Jar], folder: Path) -> tuple[Jar, ...]:
    """Return the jars that are not below `folder` in full.

    Size is enough here: a file gets its final name only after its hash was verified.
    """
    return tuple(jar for jar in jars if not _is_complete(folder / jar.path, jar.size_bytes))


def _is_complete(file: Path, size_bytes: int) -> bool:
    try:
        return file.stat().st_size == size_bytes
    except FileNotFoundError:
        return False


def download(jars: Iterable[Jar], folder: Path, base_url: str | None, on_bytes: OnBytes) -> None:
    """Bring every jar below `folder`; nothing is fetched twice, whoever else shares the folder.

    `base_url` is a Maven 2 repository, by default the one that the jgo library names.
    Raises `ProvisioningError` for the first jar that cannot be had or whose content is not the pinned one.
    """
    url = (base_url or jgo.constants.MAVEN_CENTRAL_URL).rstrip("/")
    with _exclusive(folder), ThreadPoolExecutor(DOWNLOADS_MAX) as pool:
        wanted = missing(jars, folder)
        stopped = threading.Event()

        def count(arrived: int) -> None:
            if stopped.is_set():
                raise _StoppedError
            on_bytes(arrived)

        pending = [pool.submit(_fetch, jar, folder, url, count) for jar in wanted]
        try:
            for done in as_completed(pending):
                done.result()
        finally:
            # After a failure or Ctrl-C nobody waits for the other downloads.
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder's download lock; the kernel releases it when this process ends, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(jar: Jar, folder: Path, url: str, on_bytes: OnBytes) -> None:
    target = folder / jar.path
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        for attempt in stamina.retry_context(on=_is_worth_a_retry, attempts=ATTEMPTS_MAX):
            with attempt:
                _stream(jar, f"{url}/{jar.path}", partial, on_bytes)
        partial.replace(target)
    except (OSError, HTTPException) as error:
        message = f"cannot download {jar.coordinate}: {error}"
        raise ProvisioningError(message) from error
    finally:
        partial.unlink(missing_ok=True)


def _is_worth_a_retry(error: Exception) -> bool:
    if isinstance(error, HTTPError):
        return error.code >= _SERVER_ERROR or error.code == _TOO_MANY_REQUESTS
    return isinstance(error, OSError | HTTPException)


def _stream(jar: Jar, url: str, partial: Path, on_bytes: OnBytes) -> None:
    digest, received = hashlib.sha256(), 0
    try:
        with urlopen(url, timeout=READ_S_MAX) as answer, partial.open("wb") as file:  # noqa: S310 - pinned by hash
            while chunk := answer.read(_CHUNK_BYTES):
                received += len(chunk)
                on_bytes(len(chunk))
                digest.update(chunk)
                file.write(chunk)
        if received < jar.size_bytes:
            message = f"the answer ended after {received} of {jar.size_bytes} bytes"
            raise ConnectionError(message)
    except (OSError, HTTPException) as error:
        on_bytes(-received)
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        raise
    if digest.hexdigest() != jar.sha256:
        message = f"{jar.coordinate} is not the pinned jar: SHA-256 {digest.hexdigest()}, not {jar.sha256}"
        raise ProvisioningError(message)
