"""``requirements.lock`` pins every requirement of the project by version and by hash."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
# The oldest one, and the first with other servers for the local stack.
PYTHONS = ("3.11", "3.13")
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)")


def pins() -> dict[str, list[str]]:
    """Name and version of each pin -> its hashes."""
    found: dict[str, list[str]] = {}
    current = ""
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if (match := PIN.match(line)) is not None:
            current = f"{canonicalize_name(match['name'])}=={match['version']}"
            found[current] = []
        elif line.strip().startswith("--hash=sha256:"):
            found[current].append(line.strip().removeprefix("--hash=sha256:").removesuffix("\\").strip())
    return found


def locked_versions() -> dict[str, Version]:
    return {name: Version(version) for name, _, version in (pin.partition("==") for pin in pins())}


def declared() -> list[Requirement]:
    """Everything that a development checkout installs; what only a GPU machine needs is not locked."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras: dict[str, list[str]] = project["project"]["optional-dependencies"]
    texts = [
        *project["project"]["dependencies"],
        *(text for name, listed in extras.items() if name != "tensorrt-llm" for text in listed),
        *project["dependency-groups"]["dev"],
    ]
    requirements = [Requirement(text) for text in texts]
    return [requirement for requirement in requirements if requirement.name != "turnstream"]


def test_every_pin_has_hashes() -> None:
    found = pins()
    assert len(found) > 50
    assert not [pin for pin, hashes in found.items() if not hashes]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for hashes in found.values() for digest in hashes)


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_every_requirement_is_locked_at_a_version_that_it_allows(requirement: Requirement) -> None:
    platforms = (
        {"sys_platform": "linux", "platform_machine": "x86_64", "python_version": python} for python in PYTHONS
    )
    if requirement.marker is not None and not any(requirement.marker.evaluate(platform) for platform in platforms):
        pytest.skip("not for the platform of the lock file")
    version = locked_versions().get(canonicalize_name(requirement.name))
    assert version is not None, f"{requirement.name} is not in requirements.lock"
    assert requirement.specifier.contains(version, prereleases=True)


def test_the_lock_names_no_index() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert not [
        line for line in lines if line.startswith(("-i", "--index", "--extra-index", "--find-links", "--trusted"))
    ]
