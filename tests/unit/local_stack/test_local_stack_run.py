"""A whole run through `Stack`, with tiny processes in the place of ours and no server."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from turnstream.local_stack import state
from turnstream.local_stack.errors import AlreadyRunningError, PartFailedError, StackError
from turnstream.local_stack.parts import OneShot
from turnstream.local_stack.plan import StackOptions
from turnstream.local_stack.processes import OurProcess, replicated
from turnstream.local_stack.settings import StackSettings
from turnstream.local_stack.stack import Stack, StackObserver
from turnstream.local_stack.state import RunRecord

# Answers 200 to anything on its metrics port, as our processes do on /readyz.
SERVE = """\
import os, socket
server = socket.create_server(("127.0.0.1", int(os.environ["TURNSTREAM_METRICS__PORT"])))
while True:
    client, _ = server.accept()
    client.recv(4096)
    client.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
    client.close()
"""


def _python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code)


def _options(code: str = SERVE) -> StackOptions:
    rows = (OurProcess("edge", _python(code), serves=True), OurProcess("sink", _python(code)))
    bootstrap = OneShot("bootstrap", _python("print('topics made'); print('key=ts-development')"))
    return StackOptions(servers=(), processes=replicated(rows, 2), bootstrap=bootstrap)


def _until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def settings(tmp_path: Path) -> StackSettings:
    return StackSettings(home=tmp_path / "home")


def test_a_run_from_start_to_stop(settings: StackSettings) -> None:
    records: list[RunRecord] = []
    with Stack(settings, _options(), StackObserver(on_record=records.append)) as stack:
        assert stack.record.all_ready
        assert stack.endpoints.key == "ts-development"
        assert stack.endpoints.base_url == f"http://127.0.0.1:{stack.record.ports['edge']}/v1"
        assert [part.name for part in stack.record.parts] == ["edge", "edge-2", "sink", "sink-2"]
        _until(lambda: state.read(stack.layout.state_file) == stack.record)
        victim = stack.part("sink-2").pid
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        _until(lambda: stack.part("sink-2").restarts == 1 and stack.record.all_ready)
        pids = [part.pid for part in stack.record.parts]
    assert all(pid is not None and state.process_created(pid) is None for pid in pids)
    assert not stack.layout.state_file.exists()
    assert records[0].parts[0].pid is None


def test_one_home_has_one_run(settings: StackSettings) -> None:
    with Stack(settings, _options()), pytest.raises(AlreadyRunningError, match=str(os.getpid())):
        Stack(settings, _options()).start()
    with Stack(settings, _options()) as again:
        assert again.record.all_ready


def test_a_failed_start_leaves_nothing_and_says_why(settings: StackSettings) -> None:
    with pytest.raises(PartFailedError, match="ended with exit code 1") as raised:
        Stack(settings, _options("import sys; sys.exit('no such table')")).start()
    assert raised.value.log_lines == ("no such table",)
    with pytest.raises(StackError, match="not started"):
        _ = Stack(settings).record


def test_a_start_can_be_stopped(settings: StackSettings) -> None:
    def stop_early(record: RunRecord) -> None:
        if any(part.pid is not None for part in record.parts):
            stack.ask_to_stop()

    stack = Stack(settings, _options("import signal; signal.pause()"), StackObserver(on_record=stop_early))
    with pytest.raises(StackError, match="stopped while starting"):
        stack.start()
    assert not stack.layout.state_file.exists()
