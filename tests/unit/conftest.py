"""A unit test fails when code of ours blocks the event loop."""

import logging
from collections.abc import Iterator

import pytest
import structlog
from blockbuster import BlockBuster, blockbuster_ctx

OURS = ["schemas", "producers", "stream_processors", "consumers"]


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[BlockBuster]:
    with blockbuster_ctx(scanned_modules=OURS) as blockbuster:
        # Rules and scripts are read when a stage is built, before its process serves anybody.
        for reading in ("io.TextIOWrapper.read", "io.BufferedReader.read"):
            blockbuster.functions[reading].can_block_in("toml_rules.py", "load_rules")
        yield blockbuster


@pytest.fixture
def logging_of_before() -> Iterator[None]:
    """What is configured for the logging of the whole interpreter is undone after the test."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = before
