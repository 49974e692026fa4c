"""What is generated for the servers, and what is read from the user and from programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnstream.local_stack import cassandra, java, kafka, redis_server
from turnstream.local_stack.errors import ProvisioningError, StackError
from turnstream.local_stack.front_end import options_of, read_settings, ready_text
from turnstream.local_stack.jars import Jar, class_path, parse_lock, read_lock, render_lock
from turnstream.local_stack.parts import PartState, PartStatus
from turnstream.local_stack.progress import uptime_text
from turnstream.local_stack.state import RunRecord, RunState


def test_the_broker_never_creates_a_topic_by_itself() -> None:
    properties = kafka.properties(Path("data"), 19092, 19093)
    assert properties["auto.create.topics.enable"] == "false"
    assert properties["group.initial.rebalance.delay.ms"] == "0"
    assert {value for name, value in properties.items() if name.endswith("replication.factor")} == {"1"}
    assert all("0.0.0.0" not in value for value in properties.values())  # noqa: S104 - asserted absent


def test_cluster_ids_are_what_kafka_accepts() -> None:
    ids = {kafka.cluster_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert {len(text) for text in ids} == {22}
    # One that starts with a dash would be an option to kafka-storage: met once in 64 fresh homes.
    assert not any(text.startswith("-") for text in ids)


def test_cassandra_listens_on_loopback_and_keeps_its_data_in_one_folder() -> None:
    settings = cassandra.settings(Path("/somewhere"), 19042, 17000)
    assert settings["listen_address"] == settings["rpc_address"] == "127.0.0.1"
    folders = [str(value) for name, value in settings.items() if name.endswith("_directory")]
    assert folders
    assert all(folder.startswith("/somewhere/") for folder in folders)


@pytest.mark.parametrize(
    ("output", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "25" 2025-09-16', 25),
        ('java version "1.8.0_401"', 1),
        ("command not found", None),
    ],
)
def test_java_versions(output: str, major: int | None) -> None:
    assert java.major_version(output) == major


@pytest.mark.parametrize(
    ("output", "major"), [("Redis server v=7.0.15 sha=0", 7), ("Redis server v=6.2.14", 6), ("", None)]
)
def test_redis_versions(output: str, major: int | None) -> None:
    assert redis_server.major_version(output) == major


def test_a_lock_file_is_read_as_it_was_written() -> None:
    jars = (Jar("org.a", "b", "1.0", "", "a" * 64, 7), Jar("org.a", "b", "1.0", "linux", "b" * 64, 8))
    assert parse_lock("# comment\n\n" + render_lock(jars)) == jars
    assert [jar.path for jar in jars] == ["org/a/b/1.0/b-1.0.jar", "org/a/b/1.0/b-1.0-linux.jar"]
    assert class_path(jars[:1], Path("/jars")) == "/jars/org/a/b/1.0/b-1.0.jar"


@pytest.mark.parametrize("line", ["a:b:1 short 5", f"a:b:1 {'a' * 64}", f"a:b {'a' * 64} 5", f"a:b:1 {'a' * 64} many"])
def test_a_broken_lock_line_is_named(line: str) -> None:
    with pytest.raises(ProvisioningError, match="line 2"):
        parse_lock(f"# first\n{line}\n")


@pytest.mark.parametrize(
    ("name", "main"),
    [("kafka", "org.apache.kafka:kafka_2.13:4.3.0"), ("cassandra", "org.apache.cassandra:cassandra-all:5.0.8")],
)
def test_the_committed_locks_pin_the_servers(name: str, main: str) -> None:
    jars = read_lock(name)
    assert main in {jar.coordinate for jar in jars}
    assert len({jar.path for jar in jars}) == len(jars) > 40


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNSTREAM_STACK__KAFKA_PORT", "70000")
    with pytest.raises(StackError, match="TURNSTREAM_STACK__KAFKA_PORT"):
        read_settings()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TURNSTREAM_STACK__HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TURNSTREAM_EDGE__PORT", "8090")
    settings = read_settings()
    assert settings.edge_port == 8090
    assert settings.layout().jars == tmp_path / "home" / "jars"
    monkeypatch.setenv("TURNSTREAM_STACK__JARS", str(tmp_path / "shared"))
    assert read_settings().layout().jars == tmp_path / "shared"


def test_only_and_no_processes() -> None:
    assert options_of("kafka, redis", no_processes=False).servers == ("kafka", "redis")
    assert options_of("redis", no_processes=False).jars == ()
    everything, servers_only = options_of("", no_processes=False), options_of("", no_processes=True)
    assert everything.servers == servers_only.servers
    assert everything.processes
    assert (servers_only.processes, servers_only.bootstrap) == ((), None)


def test_the_user_is_told_what_to_paste() -> None:
    text = ready_text(_record("http://127.0.0.1:8080/v1", "ts-key"), stop="Ctrl-C")
    assert "curl -N http://127.0.0.1:8080/v1/chat/completions" in text
    assert "Bearer ts-key" in text
    assert '"stream": true' in text
    assert "export A='1'" in ready_text(_record(None, None), stop="Ctrl-C")


@pytest.mark.parametrize(("seconds", "text"), [(4, "4s"), (64, "1m 04s"), (3_720, "1h 02m")])
def test_uptimes(seconds: int, text: str) -> None:
    assert uptime_text(PartStatus("kafka", 1, PartState.READY, pid=7, since=100.0), now=100.0 + seconds) == text
    assert uptime_text(PartStatus("kafka", 1), now=100.0) == "-"


def _record(base_url: str | None, key: str | None) -> RunRecord:
    return RunRecord(
        run_id="r", pid=1, pid_created=1.0, state=RunState.READY, base_url=base_url, key=key, ports={},
        environment={"A": "1"}, notes=(), parts=(),
    )  # fmt: skip
