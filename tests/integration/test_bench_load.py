"""The load client of the benchmarks against their fake upstream: all tokens come, at the pace that was asked for."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
# The upstream's wheel and the clock of its loop count whole milliseconds.
EARLY_MS_MAX = 2


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    command = (sys.executable, str(BENCH / "fake_upstream.py"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        process.terminate()


def run(url: str, *arguments: str) -> dict[str, object]:
    command = (sys.executable, str(BENCH / "load_client.py"), "--url", url, "--warm-up", "0.1", *arguments)
    found: dict[str, object] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)  # noqa: S603
    return found


def test_paced_answers_come_whole_and_not_before_they_are_due(upstream: str) -> None:
    pace = ("--tokens", "5", "--first-ms", "30", "--gap-ms", "10")
    found = run(upstream, "--streams", "3", "--seconds", "0.5", *pace)
    assert (found["faults"], found["failed"]) == ({}, {})
    assert isinstance(found["first_ms"], list)
    assert found["first_ms"]
    assert min(found["first_ms"]) >= 30 - EARLY_MS_MAX


def test_answers_flat_out_come_whole(upstream: str) -> None:
    found = run(upstream, "--streams", "2", "--seconds", "0.3", "--tokens", "200", "--first-ms", "0", "--gap-ms", "0")
    assert (found["faults"], found["failed"]) == ({}, {})
    assert isinstance(found["tokens"], int)
    assert found["tokens"] > 200


def test_a_server_that_is_not_there_is_counted() -> None:
    found = run("http://127.0.0.1:9/v1", "--streams", "1", "--seconds", "0.2")
    assert found["answers"] == 0
    assert found["failed"]
