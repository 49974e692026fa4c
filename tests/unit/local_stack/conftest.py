"""Nothing that the developer exported for a stack of their own reaches these tests."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _no_stack_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TURNSTREAM_")]:
        monkeypatch.delenv(name)
