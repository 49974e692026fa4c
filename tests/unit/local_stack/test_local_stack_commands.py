"""The commands' errors: one line and an exit code."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from turnstream.commands.stack import register
from turnstream.local_stack import front_end, state
from turnstream.local_stack.layout import Layout
from turnstream.local_stack.parts import OneShot, PartState, PartStatus
from turnstream.local_stack.plan import StackOptions
from turnstream.local_stack.stack import Stack
from turnstream.local_stack.state import RunRecord, RunState


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv("TURNSTREAM_STACK__HOME", str(tmp_path))
    layout = Layout(tmp_path, tmp_path / "jars")
    layout.create()
    return layout


def _run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    register(app)
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output


def _write_live(home: Layout, part_state: PartState) -> None:
    part = PartStatus("kafka", 19092, part_state, pid=4, since=1.0)
    record = RunRecord(
        run_id="r", pid=os.getpid(), pid_created=state.process_created(os.getpid()) or 0.0, state=RunState.READY,
        base_url=None, key=None, ports={"kafka": 19092}, environment={}, notes=(), parts=(part,),
    )  # fmt: skip
    state.write(home.state_file, record)


@pytest.mark.usefixtures("home")
def test_nothing_runs() -> None:
    for command in ("status", "down"):
        code, output = _run(command)
        assert code == 3
        assert output.startswith("error: not running")
        assert output.count("\n") == 1


def test_wiping_needs_no_run(home: Layout) -> None:
    (home.data / "kafka").mkdir()
    assert _run("down", "--wipe") == (0, "data removed\n")
    assert not home.data.exists()


@pytest.mark.parametrize(("part_state", "code"), [(PartState.READY, 0), (PartState.BACKOFF, 6)])
def test_status_says_whether_everything_is_ready(home: Layout, part_state: PartState, code: int) -> None:
    _write_live(home, part_state)
    assert _run("status")[0] == code
    exit_code, output = _run("status", "--json")
    assert exit_code == code
    assert json.loads(output)["parts"][0]["state"] == part_state


def test_a_live_run_is_not_started_twice(home: Layout) -> None:
    _write_live(home, PartState.READY)
    code, output = _run("up", "--only", "redis")
    assert code == 4
    assert str(os.getpid()) in output


def test_a_home_that_is_being_started_is_refused(home: Layout) -> None:
    with home.lock_file.open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert _run("up", "--only", "redis") == (4, "error: already starting\n")


@pytest.mark.usefixtures("home")
def test_an_explicit_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("TURNSTREAM_STACK__REDIS_PORT", str(port))
        code, output = _run("up", "--only", "redis")
    assert code == 5
    assert f"port {port} for redis is taken" in output


@pytest.mark.usefixtures("home")
def test_an_unknown_server_and_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run("up", "--only", "postgres")[0] == 1
    monkeypatch.setenv("TURNSTREAM_STACK__KAFKA_PORT", "kafka")
    code, output = _run("status")
    assert code == 1
    assert "TURNSTREAM_STACK__KAFKA_PORT" in output


def test_logs_of_one_part_and_of_all(home: Layout) -> None:
    assert _run("logs")[0] == 1
    home.log("kafka").write_text("one\ntwo\n", encoding="utf-8")
    home.log("edge").write_text("three\n", encoding="utf-8")
    assert _run("logs", "kafka", "-n", "1") == (0, "kafka | two\n")
    assert _run("logs") == (0, "edge  | three\nkafka | one\nkafka | two\n")
    code, output = _run("logs", "../secret")
    assert code == 1
    assert "there are edge, kafka" in output


def test_a_background_supervisor_never_prints_the_key(
    home: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(front_end, "options_of", lambda *_, **__: _tiny_run())
    stops: list[Stack] = []
    monkeypatch.setattr(front_end, "_stop_on_signals", stops.append)
    monkeypatch.setattr(Stack, "wait", lambda _: None)
    assert front_end.supervise("", no_processes=False) == 0
    assert "ts-development" not in capsys.readouterr().out
    assert front_end.up("", no_processes=False, detach=False) == 0
    assert stops
    assert not home.state_file.exists()


def _tiny_run() -> StackOptions:
    bootstrap = OneShot("bootstrap", (sys.executable, "-S", "-c", "print('key=ts-development')"))
    return StackOptions(servers=(), processes=(), bootstrap=bootstrap)
