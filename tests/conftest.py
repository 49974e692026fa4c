from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

SERVED_BY_A_LOOP = ("producers", "stream_processors", "consumers", "turnstream")
# The supervisor of the local stack serves nobody: its loop may read a log file.
SERVES_NOBODY = ("turnstream.local_stack",)
UNIT_TESTS = Path(__file__).parent / "unit"


@pytest.fixture(autouse=True)
def event_loop_is_never_blocked(request: pytest.FixtureRequest) -> Iterator[None]:
    """A unit test fails when code of ours makes a blocking call on the event loop."""
    if UNIT_TESTS not in request.path.parents:
        yield
        return
    with blockbuster_ctx(SERVED_BY_A_LOOP, excluded_modules=SERVES_NOBODY) as blocking:
        # Rules are read once, before the process is ready.
        blocking.functions["io.TextIOWrapper.read"].can_block_in("moderation/toml_rules.py", "load_policy")
        yield
