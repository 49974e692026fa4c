"""The pinned jars: the lock file's format, and where a jar lies in a Maven repository. No network here."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from turnstream.local_stack.errors import ProvisioningError

_SHA256_HEX_CHARS: Final = 64
_COORDINATE_PARTS: Final = (3, 4)


@dataclass(frozen=True, order=True, slots=True)
class Jar:
    """One jar, pinned: its Maven coordinate, the SHA-256 of its content (hex) and its size in bytes."""

    group: str
    artifact: str
    version: str
    classifier: str
    sha256: str
    size_bytes: int

    @property
    def coordinate(self) -> str:
        """`group:artifact:version[:classifier]`."""
        named = (self.group, self.artifact, self.version, self.classifier)
        return ":".join(part for part in named if part)

    @property
    def path(self) -> str:
        """The path below a repository's root, with forward slashes (Maven 2 repository layout)."""
        suffix = f"-{self.classifier}" if self.classifier else ""
        folder = "/".join((*self.group.split("."), self.artifact, self.version))
        return f"{folder}/{self.artifact}-{self.version}{suffix}.jar"


def lock_file(name: str) -> Path:
    """Return the committed lock file of `kafka` or `cassandra`."""
    return Path(__file__).with_name(f"{name}.jars.lock")


def parse_lock(text: str) -> tuple[Jar, ...]:
    """Read a lock file: `group:artifact:version[:classifier] sha256 bytes` a line, `#` starts a comment.

    Raises `ProvisioningError` naming the line that does not follow the format.
    """
    numbered = enumerate(text.splitlines(), start=1)
    return tuple(_parse_line(number, line) for number, line in numbered if line.strip() and not line.startswith("#"))


def _parse_line(number: int, line: str) -> Jar:
    fields = line.split()
    coordinate = fields[0].split(":")
    well_formed = len(fields) == len(("coordinate", "sha256", "bytes")) and len(coordinate) in _COORDINATE_PARTS
    if not well_formed or len(fields[1]) != _SHA256_HEX_CHARS or not fields[2].isdigit():
        message = f"jar lock line {number} is not `group:artifact:version[:classifier] sha256 bytes`"
        raise ProvisioningError(message)
    group, artifact, version, *classifier = coordinate
    return Jar(group, artifact, version, "".join(classifier), fields[1], int(fields[2]))


def render_lock(jars: Iterable[Jar]) -> str:
    """Write the lock file's text; `parse_lock` reads it back unchanged."""
    return "".join(f"{jar.coordinate} {jar.sha256} {jar.size_bytes}\n" for jar in jars)


def read_lock(name: str) -> tuple[Jar, ...]:
    """Read the committed lock file of `kafka` or `cassandra`."""
    return parse_lock(lock_file(name).read_text(encoding="utf-8"))


def class_path(jars: Iterable[Jar], folder: Path) -> str:
    """Return the JVM class path of jars below `folder`, in lock file order."""
    return os.pathsep.join(str(folder / jar.path) for jar in jars)
