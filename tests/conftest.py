"""What holds for every test."""

import os
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

_TESTS: Final = Path(__file__).parent
# They start what they need themselves, and nobody else's.
_APART: Final = frozenset({"test_demo.py", "test_faults_short.py"})

# A machine that is busy makes a fast example slow, which says nothing about the code. In continuous integration the
# examples are the same in every run; at a desk they are new ones each time.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep on one worker what shares servers: the end-to-end tests are one lane, beside them goes all the rest."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_lane(item.path.relative_to(_TESTS))))
    if hasattr(config, "workerinput"):
        # The longest lane, which mostly waits, has to begin first.
        items.sort(key=lambda item: _lane(item.path.relative_to(_TESTS)) != "e2e")


def _lane(test: Path) -> str:
    if test.parts[0] == "e2e" and test.name not in _APART:
        return "e2e"
    # A folder with servers of its own starts them once.
    return "/".join(test.parts[:2]) if test.parts[0] in ("contract", "integration") else str(test)
