"""A unit test fails when code of ours blocks the event loop."""

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

OURS = ["schemas", "producers", "stream_processors", "consumers"]


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[BlockBuster]:
    with blockbuster_ctx(scanned_modules=OURS) as blockbuster:
        # Rules and scripts are read when a stage is built, before its process serves anybody.
        for reading in ("io.TextIOWrapper.read", "io.BufferedReader.read"):
            blockbuster.functions[reading].can_block_in("toml_rules.py", "load_rules")
        yield blockbuster
