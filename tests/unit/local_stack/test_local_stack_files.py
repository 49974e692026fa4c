"""State file, logs, and the jar download against a server of the test's own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import stamina

from turnstream.local_stack import logfiles, state
from turnstream.local_stack.child import RUN_ID_VARIABLE
from turnstream.local_stack.development_secrets import DEVELOPMENT_KEY_FILE, PEPPER, PEPPER_FILE, secret_files
from turnstream.local_stack.errors import ProvisioningError
from turnstream.local_stack.jars import Jar
from turnstream.local_stack.layout import Layout
from turnstream.local_stack.leftovers import end_leftovers
from turnstream.local_stack.parts import PartState, PartStatus
from turnstream.local_stack.provision import download, missing
from turnstream.local_stack.state import RunRecord, RunState


def _record(parts: tuple[PartStatus, ...] = (), run: RunState = RunState.READY, run_id: str = "none") -> RunRecord:
    return RunRecord(
        run_id=run_id, pid=os.getpid(), pid_created=state.process_created(os.getpid()) or 0.0, state=run, base_url=None,
        key="ts-key", ports={}, environment={}, notes=(), parts=parts,
    )  # fmt: skip


def test_the_state_file_is_private_and_read_as_written(tmp_path: Path) -> None:
    file = tmp_path / "stack.json"
    record = _record((PartStatus("kafka", 19092, PartState.READY, pid=5, pid_created=1.5, restarts=2),))
    state.write(file, record)
    assert state.read(file) == record
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("content", [None, "", "{}", "not json"])
def test_a_missing_or_foreign_state_file_is_no_run(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "stack.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    assert state.read(file) is None


def test_a_pid_that_now_belongs_to_another_process_is_not_alive() -> None:
    assert state.is_alive(_record())
    assert not state.is_alive(_record().model_copy(update={"pid_created": 1.0}))
    assert not state.same_process(1.0, None)
    assert not state.same_process(None, 1.0)


def test_all_ready_means_every_part() -> None:
    ready, unready = PartStatus("a", 1, PartState.READY), PartStatus("b", 2, PartState.UNREADY)
    assert _record((ready,)).all_ready
    assert not _record((ready, unready)).all_ready
    assert not _record((ready,), RunState.STOPPING).all_ready


def test_leftovers_are_ended_by_record_and_by_mark_and_strangers_are_not() -> None:
    sleeper = (sys.executable, "-c", "input()")
    marked, recorded, stranger = (
        subprocess.Popen(sleeper, stdin=subprocess.PIPE, env=environment, start_new_session=True)  # noqa: S603 - Python
        for environment in ({**os.environ, RUN_ID_VARIABLE: "marked-run"}, os.environ, os.environ)
    )
    part = PartStatus("a", 1, pid=recorded.pid, pid_created=state.process_created(recorded.pid))
    reused = PartStatus("b", 1, pid=stranger.pid, pid_created=1.0)
    try:
        assert end_leftovers(_record((part, reused), run_id="marked-run")) == 2
        assert marked.poll() is not None
        assert recorded.poll() is not None
        assert stranger.poll() is None
    finally:
        for process in (marked, recorded, stranger):
            process.kill()
            process.communicate()


def test_secrets_are_made_once_and_are_private(tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path / "jars")
    layout.create()
    files = secret_files(layout, {})
    pepper = Path(files[PEPPER_FILE])
    content = pepper.read_text(encoding="ascii")
    assert len(content) == 64
    assert pepper.stat().st_mode & 0o777 == 0o600
    assert secret_files(layout, {}) == files
    assert pepper.read_text(encoding="ascii") == content
    assert secret_files(layout, {PEPPER: "theirs", DEVELOPMENT_KEY_FILE: "their-file"}) == {
        DEVELOPMENT_KEY_FILE: "their-file"
    }


def test_logs_keep_one_generation_and_stay_bounded(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert logfiles.tail(log, 3) == ()
    log.write_text("one\ntwo\nthree\n", encoding="utf-8")
    assert logfiles.tail(log, 2) == ("two", "three")
    logfiles.cut_if_large(log, bytes_max=100)
    assert log.stat().st_size > 0
    logfiles.cut_if_large(log, bytes_max=5)
    assert log.stat().st_size == 0
    assert (tmp_path / "a.log.1").read_text(encoding="utf-8") == "one\ntwo\nthree\n"
    log.write_text("next\n", encoding="utf-8")
    logfiles.rotate(log)
    assert not log.exists()
    assert logfiles.tail(tmp_path / "a.log.1", 5) == ("next",)


def test_following_yields_whole_lines_and_survives_a_cut(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("old\n", encoding="utf-8")
    steps = iter(["new\nhalf", " done\n"])

    def write_on() -> None:
        text = next(steps, None)
        if text is None:
            log.write_text("x\n", encoding="utf-8")
        else:
            with log.open("a", encoding="utf-8") as file:
                file.write(text)

    lines = logfiles.follow({"a": log}, write_on)
    assert [next(lines) for _ in range(3)] == [("a", "new"), ("a", "half done"), ("a", "x")]


class _Repository(BaseHTTPRequestHandler):
    answers: dict[str, list[bytes]]
    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        left = self.answers.get(self.path, [])
        body = left[0] if len(left) == 1 else left.pop(0) if left else b""
        self.send_response(200 if left or body else 404)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def repository() -> Iterator[tuple[str, type[_Repository]]]:
    handler = type("Handler", (_Repository,), {"answers": {}, "requests": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, stamina.set_testing(testing=True, attempts=3):
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/m2", handler
        server.shutdown()
        thread.join()


def _jar(content: bytes, name: str = "b") -> Jar:
    return Jar("org.a", name, "1", "", hashlib.sha256(content).hexdigest(), len(content))


def test_a_jar_is_fetched_once_and_verified(repository: tuple[str, type[_Repository]], tmp_path: Path) -> None:
    url, handler = repository
    jar, arrived = _jar(b"content"), list[int]()
    handler.answers[f"/m2/{jar.path}"] = [b"content"]
    assert missing([jar], tmp_path) == (jar,)
    for _ in range(2):
        download([jar], tmp_path, url, arrived.append)
    assert (tmp_path / jar.path).read_bytes() == b"content"
    assert missing([jar], tmp_path) == ()
    assert len(handler.requests) == 1
    assert sum(arrived) == len(b"content")


def test_a_short_answer_is_asked_for_again(repository: tuple[str, type[_Repository]], tmp_path: Path) -> None:
    url, handler = repository
    jar, arrived = _jar(b"content"), list[int]()
    handler.answers[f"/m2/{jar.path}"] = [b"con", b"content"]
    download([jar], tmp_path, url, arrived.append)
    assert (tmp_path / jar.path).read_bytes() == b"content"
    assert sum(arrived) == len(b"content")


@pytest.mark.parametrize(
    ("answer", "problem"), [([b"c0ntent"], "not the pinned jar"), ([], "cannot download org.a:b:1")]
)
def test_what_is_wrong_never_gets_the_jars_name(
    repository: tuple[str, type[_Repository]], tmp_path: Path, answer: list[bytes], problem: str
) -> None:
    url, handler = repository
    jar = _jar(b"content")
    handler.answers[f"/m2/{jar.path}"] = answer
    with pytest.raises(ProvisioningError, match=problem):
        download([jar], tmp_path, url, lambda _: None)
    assert not list(tmp_path.rglob("*.jar*"))
