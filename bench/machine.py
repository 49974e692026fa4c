"""What the figures were measured on, and where results are kept."""

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeVar

RESULTS: Final = Path(__file__).parent / "results"
T = TypeVar("T")


def describe_machine() -> dict[str, Any]:
    """The machine and the versions that a figure depends on."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("aiokafka", "uvicorn", "uvloop", "pydantic", "tritonclient")},
    }


def keep(name: str, command: str, results: Any) -> Path:
    """Write ``results`` with the machine's description to ``bench/results/<date>-<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{time.strftime('%Y-%m-%d')}-{name}.json"
    kept = {"command": command, "machine": describe_machine(), "results": results}
    path.write_text(json.dumps(kept, indent=2) + "\n")
    return path


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far (Linux ``/proc``)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def tree_cpu_seconds(pid: int) -> float:
    """The same of a process and all below it; what has ended counts as nothing."""
    return sum(_of_tree(pid, cpu_seconds))


def tree_rss_bytes(pid: int) -> int:
    """Memory that a process and all below it hold; pages that they share count for each."""
    pages = _of_tree(pid, lambda one: int(Path(f"/proc/{one}/statm").read_text().split()[1]))
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


def busy_seconds() -> float:
    """CPU time of all processes and the kernel since the machine started; waiting for disks is none."""
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
    ticks = [int(field) for field in fields]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _of_tree(pid: int, read: Callable[[int], T]) -> Iterator[T]:
    try:
        children = [
            int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()
        ]
        yield read(pid)
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in children:
        yield from _of_tree(child, read)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
