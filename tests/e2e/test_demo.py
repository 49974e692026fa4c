"""``turnstream demo`` from nothing, in a home of its own."""

import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.full_stack import command_environment

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MARK = "TURNSTREAM_E2E_MARK"
DEMO_SECONDS_MAX = 100.0


@pytest.fixture
def marked_environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A home of its own, and a mark that every process started with it bears; nothing of it outlives the test."""
    home = tmp_path / "home"
    environment = command_environment(home) | {MARK: secrets.token_hex(8)}
    yield environment
    for process in marked(environment[MARK]):
        process.send_signal(signal.SIGKILL)
    shutil.rmtree(home)


def marked(mark: str) -> list[psutil.Process]:
    """The living processes whose environment has the mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_the_demo_runs_from_nothing_and_leaves_nothing(marked_environment: dict[str, str]) -> None:
    demo = subprocess.run(
        (sys.executable, "-m", "turnstream", "demo"),
        env=marked_environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEMO_SECONDS_MAX,
        check=False,
    )
    left = [process.name() for process in marked(marked_environment[MARK])]
    assert demo.returncode == 0, demo.stderr
    assert left == []
    assert 'You wrote (5 words): "What is an event log?"' in demo.stdout
    assert "- user: What is an event log?" in demo.stdout
    assert "assistant  This is the built-in demonstration model" in demo.stdout
    for stage in ("auth", "rate_limit", "prompt", "moderation", "inference", "cassandra_sink"):
        assert stage in demo.stdout
