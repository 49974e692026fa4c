"""What holds for every test."""

import os
from pathlib import PurePosixPath
from typing import Any, Final

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# They start what they need themselves, and nobody else's.
_APART: Final = frozenset({"test_demo.py", "test_faults_short.py"})

# A machine that is busy makes a fast example slow, which says nothing about the code. In continuous integration the
# examples are the same in every run; at a desk they are new ones each time.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With workers, let the longest lane begin first: it mostly waits."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _lane(item.nodeid) != "e2e")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Keep on one worker what shares servers: the end-to-end tests are one lane, beside them goes all the rest."""
    return Lanes(config, log)


class Lanes(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """A lane is given to a worker as a whole."""

    def _split_scope(self, nodeid: str) -> str:
        return _lane(nodeid)


def _lane(nodeid: str) -> str:
    test = PurePosixPath(nodeid.partition("::")[0])
    _, kind, *rest = test.parts
    if kind == "e2e" and test.name not in _APART:
        return "e2e"
    # A folder with servers of its own starts them once.
    return f"{kind}/{rest[0]}" if kind in ("contract", "integration") else str(test)
