"""What the figures were measured on, and where results are kept."""

import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


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


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
