"""The pure decisions: ports, restarts, pools, processes."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from turnstream.local_stack import control, plan
from turnstream.local_stack.data_files import REPLAYS, URL
from turnstream.local_stack.errors import PortTakenError, StackError
from turnstream.local_stack.plan import RunPlan, StackOptions, plan_run
from turnstream.local_stack.pools import (
    Engine,
    choose_engine,
    demo_pools_environment,
    pool_environment,
    without_secrets,
)
from turnstream.local_stack.ports import PortReservations, PortWish, plan_ports
from turnstream.local_stack.processes import PROCESSES, process_part, process_ports, replicated
from turnstream.local_stack.restart import RestartPolicy, after_crash
from turnstream.local_stack.settings import StackSettings
from turnstream.local_stack.triton import find_triton


def test_a_free_default_is_taken_and_not_called_moved() -> None:
    ports = plan_ports([PortWish("kafka", 19092)], lambda _: True)
    assert (ports.ports, ports.moved) == ({"kafka": 19092}, ())


def test_a_taken_default_moves_up_and_is_said() -> None:
    ports = plan_ports(
        [PortWish("kafka", 19092, variable="KAFKA_PORT"), PortWish("inner", 19092)], lambda port: port > 19094
    )
    assert (ports.ports, ports.moved) == ({"kafka": 19095, "inner": 19096}, ("kafka",))


def test_two_wishes_never_share_a_port() -> None:
    ports = plan_ports([PortWish("a", 19100), PortWish("b", 19100), PortWish("c", 1, explicit=19102)], lambda _: True)
    assert sorted(ports.ports.values()) == [19100, 19101, 19102]


def test_a_taken_explicit_port_is_an_error_that_names_the_variable() -> None:
    wish = PortWish("kafka", 19092, explicit=20000, variable="TURNSTREAM_STACK__KAFKA_PORT")
    with pytest.raises(PortTakenError, match=r"20000.*TURNSTREAM_STACK__KAFKA_PORT"):
        plan_ports([wish], lambda _: False)


def test_no_free_port_ends_the_search() -> None:
    with pytest.raises(PortTakenError, match="no free port for kafka"):
        plan_ports([PortWish("kafka", 65000)], lambda _: False)


def test_a_reserved_port_is_taken_for_others_until_given_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        listening = server.getsockname()[1]
        first, second = PortReservations(), PortReservations()
        assert not first.take(listening)
    assert first.take(listening)
    assert not second.take(listening)
    first.close()
    assert second.take(listening)
    second.close()


POLICY = RestartPolicy(delay_s_first=1, delay_s_max=3, restarts_per_window_max=3, window_s=60, failed_retry_s=30)


def test_restarts_back_off_up_to_the_limit_and_then_fail_slowly() -> None:
    crashes: tuple[float, ...] = ()
    seen = []
    for now in (0.0, 1.0, 2.0, 3.0, 4.0):
        restart = after_crash(POLICY, crashes, now)
        crashes = restart.crashes
        seen.append((restart.delay_s, restart.failed))
    assert seen == [(1, False), (2, False), (3, False), (30, True), (30, True)]


def test_old_crashes_are_forgotten() -> None:
    restart = after_crash(POLICY, (0.0, 1.0, 2.0), now=62.5)
    assert (restart.delay_s, restart.failed, restart.crashes) == (1, False, (62.5,))


def test_the_remembered_crashes_are_bounded() -> None:
    crashes: tuple[float, ...] = ()
    for now in range(50):
        crashes = after_crash(POLICY, crashes, float(now)).crashes
    assert len(crashes) == POLICY.restarts_per_window_max


def test_triton_answers_unless_the_machine_or_the_user_says_otherwise() -> None:
    assert choose_engine({}, None).engine is Engine.TRITON
    demo = choose_engine({}, "Triton has no build for darwin arm64")
    assert demo.engine is Engine.DEMO_UPSTREAM
    assert "no build for darwin arm64" in demo.note
    assert choose_engine({"TURNSTREAM_POOLS__FAST__BACKEND": "triton"}, None).engine is Engine.TRITON
    for variable in ("POOLS__FAST__URL", "POOLS__CAPABLE__BACKEND", "UPSTREAM__BASE_URL"):
        assert choose_engine({f"TURNSTREAM_{variable}": "openai"}, None).engine is Engine.OWN_MODEL


def test_pools_point_at_the_engine_that_was_started() -> None:
    triton = pool_environment(Engine.TRITON, 18001, {})
    assert triton["TURNSTREAM_POOLS__FAST__BACKEND"] == triton["TURNSTREAM_POOLS__CAPABLE__BACKEND"] == "triton"
    assert triton["TURNSTREAM_POOLS__FAST__URL"] == "127.0.0.1:18001"
    demo = pool_environment(Engine.DEMO_UPSTREAM, 18000, {})
    assert demo["TURNSTREAM_POOLS__CAPABLE__URL"] == "http://127.0.0.1:18000/v1"
    assert demo["TURNSTREAM_POOLS__CAPABLE__CONTINUES_PREFIX"] == "true"


def test_the_demonstration_upstream_may_serve_one_pool_beside_triton() -> None:
    assert demo_pools_environment((), 18002) == {}
    one = demo_pools_environment(("capable",), 18002)
    assert one["TURNSTREAM_POOLS__CAPABLE__URL"] == "http://127.0.0.1:18002/v1"
    assert all(name.startswith("TURNSTREAM_POOLS__CAPABLE__") for name in one)


def test_what_is_set_for_one_pool_holds_for_both_and_for_itself_first() -> None:
    given = {"TURNSTREAM_POOLS__CAPABLE__URL": "http://gpu:8000/v1", "TURNSTREAM_POOLS__CAPABLE__MODEL": "large"}
    both = pool_environment(Engine.OWN_MODEL, None, given)
    assert both["TURNSTREAM_POOLS__FAST__BACKEND"] == both["TURNSTREAM_POOLS__CAPABLE__BACKEND"] == "openai"
    assert both["TURNSTREAM_POOLS__FAST__URL"] == "http://gpu:8000/v1"
    differing = pool_environment(Engine.OWN_MODEL, None, given | {"TURNSTREAM_POOLS__FAST__MODEL": "small"})
    assert differing["TURNSTREAM_POOLS__FAST__MODEL"] == "small"
    assert differing["TURNSTREAM_POOLS__CAPABLE__MODEL"] == "large"


def test_one_upstream_serves_both_pools_and_its_key_is_never_shown() -> None:
    given = {
        "TURNSTREAM_UPSTREAM__BASE_URL": "http://gpu:8000/v1",
        "TURNSTREAM_UPSTREAM__API_KEY": "sk-secret",
        "TURNSTREAM_UPSTREAM__MODEL": "large",
    }
    both = pool_environment(Engine.OWN_MODEL, None, given)
    for pool in ("FAST", "CAPABLE"):
        prefix = f"TURNSTREAM_POOLS__{pool}__"
        expected = {"BACKEND": "openai", "URL": "http://gpu:8000/v1", "API_KEY": "sk-secret", "MODEL": "large"}
        assert {name.removeprefix(prefix): both[name] for name in both if name.startswith(prefix)} == expected
    assert "sk-secret" not in without_secrets(both).values()
    assert len(without_secrets(both)) == len(both) - 2


def test_two_of_each_process_have_names_and_ports_of_their_own() -> None:
    rows = replicated(PROCESSES, replicas=2)
    ports = plan_ports(process_ports(rows, edge_port=8080), lambda _: True).ports
    parts = [process_part(row, ports, {"SHARED": "yes"}) for row in rows]
    assert len({part.name for part in parts}) == len(parts) == 2 * len(PROCESSES)
    assert len({part.environment["TURNSTREAM_METRICS__PORT"] for part in parts}) == len(parts)
    edges = [part for part in parts if part.name.startswith("edge")]
    assert [part.environment["TURNSTREAM_EDGE__PORT"] for part in edges] == ["8080", "8081"]
    assert all(part.environment["SHARED"] == "yes" for part in parts)


def test_an_unknown_server_is_refused_by_name() -> None:
    with pytest.raises(StackError, match="no such server: postgres"):
        StackOptions(servers=("kafka", "postgres"))


def _plan(tmp_path: Path, environ: Mapping[str, str]) -> RunPlan:
    settings = StackSettings(home=tmp_path)
    settings.layout().create()
    with contextlib.closing(PortReservations()) as reservations:
        return plan_run(settings, StackOptions(servers=("triton",), processes=PROCESSES[2:3]), environ, reservations)


def test_without_triton_a_demonstration_upstream_runs_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "find_triton", lambda: "Triton has no build for darwin arm64")
    planned = _plan(tmp_path, {})
    servers, ours = planned.stages
    (upstream,) = servers.parts
    assert upstream.argv[1:] == ("-m", "turnstream.local_stack.demo_upstream", "--port", str(upstream.port))
    assert ours.parts[0].environment["TURNSTREAM_POOLS__FAST__URL"] == f"http://127.0.0.1:{upstream.port}/v1"
    assert "no build for darwin arm64" in planned.notes[0]


def test_a_model_of_the_users_own_starts_no_engine_and_keeps_its_key_out_of_the_record(tmp_path: Path) -> None:
    given = {"TURNSTREAM_UPSTREAM__BASE_URL": "http://gpu:8000/v1", "TURNSTREAM_UPSTREAM__API_KEY": "sk-secret"}
    planned = _plan(tmp_path, given)
    servers, ours = planned.stages
    assert servers.parts == ()
    assert ours.parts[0].environment["TURNSTREAM_POOLS__CAPABLE__API_KEY"] == "sk-secret"
    assert "sk-secret" not in planned.environment.values()


def test_what_names_offsets_of_the_log_is_wiped_with_it(tmp_path: Path) -> None:
    layout = StackSettings(home=tmp_path).layout()
    planned = _plan(tmp_path, {"TURNSTREAM_UPSTREAM__BASE_URL": "http://gpu:8000/v1"})
    replays, usage = Path(planned.environment[REPLAYS]), Path(urlsplit(planned.environment[URL]).path)
    replays.mkdir()
    usage.mkdir()
    control.wipe(layout)
    assert not replays.exists()
    assert not usage.exists()


def test_replays_go_where_the_user_says(tmp_path: Path) -> None:
    given = {"TURNSTREAM_UPSTREAM__BASE_URL": "http://gpu:8000/v1", REPLAYS: "elsewhere"}
    assert _plan(tmp_path, given).environment[REPLAYS] == "elsewhere"


def test_a_pool_of_the_demonstration_upstream_has_it_started_beside_triton(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(find_triton(), str):
        pytest.skip("this machine cannot run Triton")
    monkeypatch.setenv("TURNSTREAM_STACK__DEMO_UPSTREAM_POOLS", '["capable"]')
    servers, ours = _plan(tmp_path, {}).stages
    assert [part.name for part in servers.parts] == ["triton", "demo-upstream"]
    environment = ours.parts[0].environment
    assert environment["TURNSTREAM_POOLS__FAST__BACKEND"] == "triton"
    assert environment["TURNSTREAM_POOLS__CAPABLE__URL"] == f"http://127.0.0.1:{servers.parts[1].port}/v1"
