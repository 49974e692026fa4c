"""Our own processes as data: the supervisor and the fault tests read the same table."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from turnstream.local_stack.parts import OneShot, Part
from turnstream.local_stack.ports import LOOPBACK, PortWish
from turnstream.local_stack.readiness import http_ok

METRICS_PORT_FIRST: Final = 19100
EDGE_PORT_DEFAULT: Final = 8080


@dataclass(frozen=True, slots=True)
class OurProcess:
    """One row: `argv` starts it; `serves` says that it also listens for clients, on `TURNSTREAM_EDGE__PORT`."""

    name: str
    argv: tuple[str, ...]
    serves: bool = False
    replica: int = 1
    ready_s_max: float = 60.0

    @property
    def part_name(self) -> str:
        """The row's name for the first replica, `<name>-<n>` for the others."""
        return self.name if self.replica == 1 else f"{self.name}-{self.replica}"

    @property
    def metrics_listener(self) -> str:
        """The name of its metrics port in a port plan."""
        return f"{self.part_name}-metrics"


def _command(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "turnstream", *arguments)


BOOTSTRAP: Final = OneShot("bootstrap", _command("bootstrap"), finish_s_max=90.0)
PROCESSES: Final = (
    OurProcess("edge", _command("run", "edge"), serves=True),
    OurProcess("processors", _command("run", "processors")),
    OurProcess("inference", _command("run", "inference")),
    OurProcess("sink", _command("run", "sink")),
    OurProcess("usage-sink", _command("run", "usage-sink")),
    OurProcess("windows", _command("run", "windows")),
)


def replicated(processes: tuple[OurProcess, ...], replicas: int) -> tuple[OurProcess, ...]:
    """Return the table with `replicas` of every row, each with ports of its own."""
    return tuple(replace(row, replica=number) for row in processes for number in range(1, replicas + 1))


def process_ports(processes: tuple[OurProcess, ...], edge_port: int | None) -> tuple[PortWish, ...]:
    """Return what the processes want to listen on; `edge_port` is the one that the user asked for, if any."""
    metrics = (PortWish(row.metrics_listener, METRICS_PORT_FIRST + place) for place, row in enumerate(processes))
    serving = [row for row in processes if row.serves]
    edges = (
        PortWish(row.part_name, EDGE_PORT_DEFAULT + place, edge_port if place == 0 else None, "TURNSTREAM_EDGE__PORT")
        for place, row in enumerate(serving)
    )
    return (*edges, *metrics)


def process_part(row: OurProcess, ports: Mapping[str, int], environment: Mapping[str, str]) -> Part:
    """Return the part of one row; `environment` is what all our processes share."""
    metrics_port = ports[row.metrics_listener]
    own = {
        "TURNSTREAM_METRICS__PORT": str(metrics_port),
        # Whoever is started again in this place gets the partitions of the one that died, without a rebalance.
        "TURNSTREAM_KAFKA__INSTANCE_ID": row.part_name,
    }
    if row.serves:
        own |= {"TURNSTREAM_EDGE__HOST": LOOPBACK, "TURNSTREAM_EDGE__PORT": str(ports[row.part_name])}
    return Part(
        name=row.part_name,
        argv=row.argv,
        environment={**environment, **own},
        probe=http_ok(metrics_port, "/readyz"),
        port=ports[row.part_name] if row.serves else metrics_port,
        ready_s_max=row.ready_s_max,
        stop_s_max=15.0,
    )
