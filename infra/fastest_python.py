"""Print the Python to make the virtual environment with: the fastest build of the version that `python3` has.

One version comes in builds that differ by a fifth in speed, by whether the compiler was led by a profile, and a machine
often has several. So each on the PATH is timed. Another than `python3` is taken only where it is clearly faster, or
where `python3` is too old.

Runs on any Python from 3.7. Exit status 1 and one line on stderr where none is new enough.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

OLDEST = (3, 11)
NAMES = ("python3", "python3.11", "python3.12", "python3.13")
ROUNDS = 30
TURNS = 4
CLEARLY_FASTER = 0.9
PROBE_TIMEOUT_S = 20.0


class Build(NamedTuple):
    """One interpreter: where it lies, its version, the CPU seconds of its best round, if nothing of it is missing."""

    executable: str
    version: tuple[int, int]
    seconds: float
    whole: bool = True


def choose(first: Build | None, others: list[Build]) -> Build | None:
    """Choose `first`, or one of its version that is clearly faster; the fastest of all where `first` is too old."""
    new_enough = first is not None and first.version >= OLDEST
    versions = {first.version} if first and new_enough else {build.version for build in others}
    usable = [build for build in others if build.whole and build.version >= OLDEST and build.version in versions]
    fastest = min(usable, key=lambda build: build.seconds, default=None)
    if first and new_enough and not (fastest and fastest.seconds < CLEARLY_FASTER * first.seconds):
        return first
    return fastest


def probe() -> Build:
    """Describe the interpreter that runs this."""
    library = Path(sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("INSTSONAME") or "none")
    # Triton's Python backend links to the library, and distributions ship ensurepip apart from the interpreter.
    whole = library.is_file() and find_spec("venv") is not None and find_spec("ensurepip") is not None
    return Build(sys.executable, sys.version_info[:2], min(_timed() for _ in range(ROUNDS)), whole)


def _timed() -> float:
    """Seconds of CPU for what a server in Python does all day: calls, attributes, small objects."""
    begun = time.process_time()
    items = [_Item(number) for number in range(5_000)]
    sum(item.next().value for item in items)
    return time.process_time() - begun


class _Item:
    def __init__(self, value: int) -> None:
        self.value = value

    def next(self) -> _Item:
        return _Item(self.value + 1)


def builds_in(folders: list[str]) -> list[tuple[str, Build]]:
    """Return name and description of every Python in `folders`, in their order; what does not run is left out."""
    found: dict[Path, tuple[str, Path]] = {}
    for name in NAMES:
        for path in (Path(folder, name) for folder in folders):
            if os.access(path, os.X_OK):
                found.setdefault(path.resolve(), (name, path))
    best: dict[Path, Build] = {}
    # In turns: a shared machine is slow for a while and fast again, which must not fall on one of them.
    for _, path in [*found.values()] * TURNS:
        build = _described(path)
        if build and (path not in best or build.seconds < best[path].seconds):
            best[path] = build
    return [(name, best[path]) for name, path in found.values() if path in best]


def _described(path: Path) -> Build | None:
    command = [str(path), "-I", str(Path(__file__).resolve()), "--probe"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=True)  # noqa: S603 - what the user's own PATH holds
        executable, version, seconds, whole = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Build(executable, tuple(version), seconds, whole)


def main() -> int:
    """Print the path of the chosen interpreter."""
    found = builds_in(os.environ.get("PATH", "").split(os.pathsep))
    first = next((build for name, build in found if name == "python3"), None)
    chosen = choose(first, [build for _, build in found])
    if chosen is None:
        sys.stderr.write("Turnstream needs Python 3.11 or newer; set PYTHON=\n")
        return 1
    sys.stdout.write(f"{chosen.executable}\n")
    return 0


if __name__ == "__main__":
    if "--probe" in sys.argv:
        sys.stdout.write(json.dumps(probe()))
    else:
        sys.exit(main())
