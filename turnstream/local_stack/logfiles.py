"""Log files with a bound: one generation per start, and a size above which a running one is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

LOG_BYTES_MAX: Final = 32 * 1024 * 1024
_TAIL_BYTES_MAX: Final = 256 * 1024


def rotate(log: Path) -> None:
    """Keep the log of the run before as `<name>.1` and drop the one before that."""
    if log.exists():
        log.replace(_previous(log))


def cut_if_large(log: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Keep the end of a log that outgrew its bound and empty the file in place.

    Its writer appends, so it goes on at the new end; what it writes between the two steps is lost.
    """
    if not log.exists() or log.stat().st_size <= bytes_max:
        return
    _previous(log).write_text("\n".join(tail(log, lines=10_000)) + "\n", encoding="utf-8")
    with log.open("r+b") as file:
        file.truncate(0)


def tail(log: Path, lines: int) -> tuple[str, ...]:
    """Return the last lines of a log, without their newlines; nothing when there is no log."""
    if not log.exists():
        return ()
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES_MAX))
        text = file.read().decode("utf-8", "replace")
    return tuple(text.splitlines()[-lines:])


def _previous(log: Path) -> Path:
    return log.with_name(f"{log.name}.1")


def follow(logs: Mapping[str, Path], pause: Callable[[], None]) -> Iterator[tuple[str, str]]:
    """Yield `(name, line)` for every line appended to any of the logs from now on, calling `pause` between rounds.

    A log that shrinks or appears is read from its start. Ends only with the generator.
    """
    read_bytes = {name: log.stat().st_size if log.exists() else 0 for name, log in logs.items()}
    partial = dict.fromkeys(logs, b"")
    while True:
        for name, log in logs.items():
            size = log.stat().st_size if log.exists() else 0
            if size < read_bytes[name]:
                read_bytes[name], partial[name] = 0, b""
            if size == read_bytes[name]:
                continue
            with log.open("rb") as file:
                file.seek(read_bytes[name])
                chunk = file.read(_TAIL_BYTES_MAX)
            read_bytes[name] += len(chunk)
            *lines, partial[name] = (partial[name] + chunk).split(b"\n")
            yield from ((name, line.decode("utf-8", "replace")) for line in lines)
        pause()
