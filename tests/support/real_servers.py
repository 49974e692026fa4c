"""Real servers for integration and contract tests: a private run of the local stack in a temporary folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from turnstream.local_stack.plan import StackOptions
from turnstream.local_stack.settings import StackSettings
from turnstream.local_stack.stack import Stack


@contextmanager
def real_servers(home: Path, *servers: str) -> Iterator[Stack]:
    """The named servers of the local stack, ready; gone afterwards.

    Jars are looked for where the environment says (`TURNSTREAM_STACK__JARS`), else in the checkout's own stack.
    """
    shared = StackSettings()
    settings = StackSettings(home=home, jars=shared.layout().jars)
    with Stack(settings, StackOptions(servers=servers, processes=(), bootstrap=None)) as stack:
        yield stack
