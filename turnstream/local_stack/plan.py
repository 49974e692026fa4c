"""Composes a run: which servers, on which ports, with which environment for our processes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from turnstream.local_stack.cassandra import cassandra_part
from turnstream.local_stack.data_files import data_files
from turnstream.local_stack.development_secrets import secret_files
from turnstream.local_stack.errors import StackError
from turnstream.local_stack.jars import Jar, class_path, read_lock
from turnstream.local_stack.java import find_java
from turnstream.local_stack.jvm import Jvm
from turnstream.local_stack.kafka import kafka_part
from turnstream.local_stack.layout import Layout
from turnstream.local_stack.parts import OneShot, Part, Stage
from turnstream.local_stack.pools import (
    Engine,
    choose_engine,
    demo_pools_environment,
    pool_environment,
    without_secrets,
)
from turnstream.local_stack.ports import LOOPBACK, PortPlan, PortReservations, PortWish, plan_ports
from turnstream.local_stack.processes import BOOTSTRAP, PROCESSES, OurProcess, process_part, process_ports
from turnstream.local_stack.readiness import http_ok
from turnstream.local_stack.redis_server import find_redis, redis_part
from turnstream.local_stack.settings import StackSettings
from turnstream.local_stack.triton import MODEL, TritonBuild, find_triton, triton_part

SERVERS: Final = ("kafka", "cassandra", "redis", "triton")
JVM_SERVERS: Final = ("kafka", "cassandra")
TOKEN_PARTITIONS: Final = 16


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What to run: some of `SERVERS`, and our processes after them. `bootstrap` None leaves that step out."""

    servers: tuple[str, ...] = SERVERS
    processes: tuple[OurProcess, ...] = PROCESSES
    bootstrap: OneShot | None = BOOTSTRAP
    triton_model: str = MODEL

    def __post_init__(self) -> None:
        """Raise `StackError` for a server that does not exist."""
        unknown = sorted(set(self.servers) - set(SERVERS))
        if unknown:
            message = f"no such server: {', '.join(unknown)} (there are {', '.join(SERVERS)})"
            raise StackError(message)

    @property
    def jars(self) -> tuple[Jar, ...]:
        """The jars that these servers need."""
        return tuple(jar for server in JVM_SERVERS if server in self.servers for jar in read_lock(server))


@dataclass(frozen=True, slots=True)
class RunPlan:
    """All that a supervisor needs, and what to tell the user about it. `environment` has no secrets."""

    stages: tuple[Stage, ...]
    ports: Mapping[str, int]
    environment: Mapping[str, str]
    notes: tuple[str, ...]


def plan_run(
    settings: StackSettings, options: StackOptions, environ: Mapping[str, str], reservations: PortReservations
) -> RunPlan:
    """Find the programs, reserve the ports, write the servers' configuration.

    Raises `ProvisioningError` for a missing program and `PortTakenError` for a port that the user asked for.
    """
    triton = find_triton() if "triton" in options.servers else "not asked for"
    choice = choose_engine(environ, triton if isinstance(triton, str) else None)
    ports = plan_ports(_wishes(settings, options, choice.engine), reservations.take)
    composer = _Composer(settings, settings.layout(), ports.ports, options)
    servers = composer.servers(choice.engine, triton)
    environment = _environment(ports.ports, choice.engine, environ) | secret_files(settings.layout(), environ)
    environment |= data_files(settings.layout(), environ)
    if choice.engine is Engine.TRITON and "demo-upstream" in ports.ports:
        environment |= demo_pools_environment(settings.demo_upstream_pools, ports.ports["demo-upstream"])
    ours = tuple(process_part(row, ports.ports, environment) for row in options.processes)
    stages = [Stage(servers)]
    if options.bootstrap is not None or ours:
        stages.append(Stage(ours, before=(options.bootstrap,) if options.bootstrap else ()))
    told = (choice.note,) if choice.note and "triton" in options.servers else ()
    return RunPlan(tuple(stages), ports.ports, without_secrets(environment), (*told, *_moved(ports)))


def _moved(plan: PortPlan) -> tuple[str, ...]:
    return tuple(f"the default port of {name} is taken: using {plan.ports[name]}" for name in plan.moved)


def _wishes(settings: StackSettings, options: StackOptions, engine: Engine) -> tuple[PortWish, ...]:
    prefix = "TURNSTREAM_STACK__"
    listeners = {
        "kafka": (
            PortWish("kafka", 19092, settings.kafka_port, f"{prefix}KAFKA_PORT"),
            PortWish("kafka-controller", 19093),
        ),
        "cassandra": (
            PortWish("cassandra", 19042, settings.cassandra_port, f"{prefix}CASSANDRA_PORT"),
            PortWish("cassandra-storage", 17000),
        ),
        "redis": (PortWish("redis", 16379, settings.redis_port, f"{prefix}REDIS_PORT"),),
        "triton": _engine_wishes(settings, engine, prefix),
    }
    servers = (wish for server in options.servers for wish in listeners[server])
    return (*servers, *process_ports(options.processes, settings.edge_port))


def _engine_wishes(settings: StackSettings, engine: Engine, prefix: str) -> tuple[PortWish, ...]:
    if engine is Engine.OWN_MODEL:
        return ()
    if engine is Engine.DEMO_UPSTREAM:
        return (PortWish("demo-upstream", 18000, settings.triton_http_port, f"{prefix}TRITON_HTTP_PORT"),)
    beside = (PortWish("demo-upstream", 18002),) if settings.demo_upstream_pools else ()
    return (
        *beside,
        PortWish("triton", 18001, settings.triton_grpc_port, f"{prefix}TRITON_GRPC_PORT"),
        PortWish("triton-http", 18000, settings.triton_http_port, f"{prefix}TRITON_HTTP_PORT"),
    )


@dataclass(frozen=True, slots=True)
class _Composer:
    settings: StackSettings
    layout: Layout
    ports: Mapping[str, int]
    options: StackOptions

    def servers(self, engine: Engine, triton: TritonBuild | str) -> tuple[Part, ...]:
        """Return the parts of the chosen servers, the slowest to start first."""
        wanted = self.options.servers
        parts: list[Part] = []
        if set(JVM_SERVERS) & set(wanted):
            parts.extend(self._jvm_servers(Jvm(find_java(), self.layout, self.settings.fast_start)))
        if "redis" in wanted:
            parts.append(redis_part(self.layout, find_redis(), self.ports["redis"]))
        if "triton" in wanted:
            parts.extend(self._engine(engine, triton))
        return tuple(parts)

    def _jvm_servers(self, jvm: Jvm) -> Iterator[Part]:
        if "cassandra" in self.options.servers:
            jars = read_lock("cassandra")
            agent = next(self.layout.jars / jar.path for jar in jars if jar.artifact == "jamm")
            ports = (self.ports["cassandra"], self.ports["cassandra-storage"])
            yield cassandra_part(jvm, class_path(jars, self.layout.jars), agent, *ports)
        if "kafka" in self.options.servers:
            jars = read_lock("kafka")
            ports = (self.ports["kafka"], self.ports["kafka-controller"])
            yield kafka_part(jvm, class_path(jars, self.layout.jars), *ports)

    def _engine(self, engine: Engine, triton: TritonBuild | str) -> tuple[Part, ...]:
        if engine is Engine.TRITON and isinstance(triton, TritonBuild):
            part = triton_part(
                self.layout,
                triton,
                self.settings.model_repository(),
                grpc_port=self.ports["triton"],
                http_port=self.ports["triton-http"],
                model=self.options.triton_model,
            )
            beside = self.settings.demo_upstream_pools
            return (part, _demo_upstream(self.ports["demo-upstream"])) if beside else (part,)
        if engine is Engine.DEMO_UPSTREAM:
            return (_demo_upstream(self.ports["demo-upstream"]),)
        return ()


def _demo_upstream(port: int) -> Part:
    argv = (sys.executable, "-m", "turnstream.local_stack.demo_upstream", "--port", str(port))
    return Part(name="demo-upstream", argv=argv, probe=http_ok(port, "/v1/models"), port=port)


def _environment(ports: Mapping[str, int], engine: Engine, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what our processes, tests and benches need to reach the servers that run."""
    found = {"TURNSTREAM_TOPICS__PARTITIONS_TOKENS": str(TOKEN_PARTITIONS)}
    if "kafka" in ports:
        found["TURNSTREAM_KAFKA__BOOTSTRAP_SERVERS"] = f"{LOOPBACK}:{ports['kafka']}"
    if "cassandra" in ports:
        found["TURNSTREAM_CASSANDRA__CONTACT_POINTS"] = json.dumps([LOOPBACK])
        found["TURNSTREAM_CASSANDRA__PORT"] = str(ports["cassandra"])
    if "redis" in ports:
        found["TURNSTREAM_REDIS__URL"] = f"redis://{LOOPBACK}:{ports['redis']}/0"
    engine_port = ports.get("triton", ports.get("demo-upstream"))
    if engine_port is not None or engine is Engine.OWN_MODEL:
        found |= pool_environment(engine, engine_port, environ)
    return found
