"""How a JVM server is started fast: a cheap compiler, and an archive of the classes that the start before had loaded.

Measured on 2 cores, from exec to readiness: Kafka 1.9 s without the archive and 0.9 s with it, Cassandra 4.5 s and
3.2 s. The archive is written by the JVM itself at its first orderly exit, which takes it 2 s more.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from turnstream.local_stack.java import Java
from turnstream.local_stack.layout import Layout

_BASE_DUMP_S_MAX: Final = 60.0
_KEY_CHARS: Final = 12
_COMMON: Final = ("-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true")
# The first compiler alone saves a third of the CPU time of a start; the code that it makes runs slower for ever.
_FAST_START: Final = ("-XX:TieredStopAtLevel=1",)
# The agent that Cassandra measures memory with would otherwise forbid archives; their warnings list every lambda.
_ARCHIVING: Final = ("-XX:+UnlockDiagnosticVMOptions", "-XX:+AllowArchivingWithJavaAgent", "-Xlog:cds=error")


@dataclass(frozen=True, slots=True)
class JvmCommand:
    """`argv` up to the main class; call `after_clean_exit` when the process ended by itself after SIGTERM."""

    argv: tuple[str, ...]
    after_clean_exit: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Jvm:
    """A Java, where its archives and crash reports go, and whether it trades running speed for a fast start."""

    java: Java
    layout: Layout
    fast_start: bool = True

    def plain(self, name: str, class_path: str, flags: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command up to the main class. A crash leaves `<name>.crash.log` beside the logs."""
        compiler = _FAST_START if self.fast_start else ()
        crash_report = f"-XX:ErrorFile={self.layout.logs / f'{name}.crash.log'}"
        scratch = f"-Djava.io.tmpdir={self.layout.scratch}"
        return (str(self.java.launcher), *_COMMON, *compiler, crash_report, scratch, *flags, "-cp", class_path)

    def archived(self, name: str, class_path: str, flags: tuple[str, ...]) -> JvmCommand:
        """Return the command that uses the class archive of an earlier run, or writes one at its exit.

        An archive fits one JVM build and class path, so both are in its name.
        """
        base = self._base_archive()
        if base is None and not self.java.has_base_archive:
            return JvmCommand(self.plain(name, class_path, flags), lambda: None)
        key = _key(self.java.version, class_path)
        archive = self.layout.archives / f"{name}-{key}.jsa"
        # The process id keeps two stacks that share a jar folder apart.
        fresh = archive.with_suffix(f".{os.getpid()}.new")
        below = (f"-XX:SharedArchiveFile={base}",) if base else ()
        if archive.is_file():
            use = (
                f"-XX:SharedArchiveFile={base}{os.pathsep}{archive}" if base else f"-XX:SharedArchiveFile={archive}",
            )
        else:
            use = (*below, f"-XX:ArchiveClassesAtExit={fresh}")
        return JvmCommand(self.plain(name, class_path, (*_ARCHIVING, *use, *flags)), lambda: _keep(fresh, archive))

    def _base_archive(self) -> Path | None:
        """Return the archive of the Java library, made once for a Java that came without one (0.6 s)."""
        if self.java.has_base_archive:
            return None
        base = self.layout.archives / f"base-{_key(self.java.version)}.jsa"
        if base.is_file():
            return base
        fresh = base.with_suffix(f".{os.getpid()}.new")
        dump = (str(self.java.launcher), *_COMMON[:1], "-Xshare:dump", f"-XX:SharedArchiveFile={fresh}")
        with contextlib.suppress(OSError, subprocess.SubprocessError):  # slower without, not broken
            subprocess.run(dump, check=True, capture_output=True, timeout=_BASE_DUMP_S_MAX)  # noqa: S603 - our Java
            return fresh.replace(base)
        return None


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_KEY_CHARS]


def _keep(fresh: Path, archive: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        fresh.replace(archive)
