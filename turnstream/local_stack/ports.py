"""Which part listens where: a pure plan, and the two questions it asks the machine."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from turnstream.local_stack.errors import PortTakenError

LOOPBACK: Final = "127.0.0.1"
SCANNED_PORTS_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class PortWish:
    """One listener: its name and default port; the port that the user asked for, if any, and the variable for that."""

    name: str
    default: int
    explicit: int | None = None
    variable: str = ""


@dataclass(frozen=True, slots=True)
class PortPlan:
    """`ports` by listener name; `moved` are those that left their default and that a user can set."""

    ports: Mapping[str, int]
    moved: tuple[str, ...]


def plan_ports(wishes: Iterable[PortWish], is_free: Callable[[int], bool]) -> PortPlan:
    """Give every wish its own port, in order: the explicit one, else the default, else the next free above it.

    `is_free` may reserve what it says yes to: it is asked once a port, and every yes is used.
    Raises `PortTakenError` when an explicit port is taken, or nothing is free within `SCANNED_PORTS_MAX`.
    """
    ports: dict[str, int] = {}
    moved: list[str] = []
    for wish in wishes:
        ports[wish.name] = _choose(wish, frozenset(ports.values()), is_free)
        if wish.variable and wish.explicit is None and ports[wish.name] != wish.default:
            moved.append(wish.name)
    return PortPlan(ports, tuple(moved))


def _choose(wish: PortWish, planned: frozenset[int], is_free: Callable[[int], bool]) -> int:
    if wish.explicit is not None:
        if wish.explicit in planned or not is_free(wish.explicit):
            message = f"port {wish.explicit} for {wish.name} is taken: free it, or change or unset {wish.variable}"
            raise PortTakenError(message)
        return wish.explicit
    for port in range(wish.default, min(wish.default + SCANNED_PORTS_MAX, 65536)):
        if port not in planned and is_free(port):
            return port
    message = f"no free port for {wish.name} among {SCANNED_PORTS_MAX} from {wish.default} up"
    raise PortTakenError(message)


class PortReservations:
    """Holds planned ports against other runs of this machine until `close`.

    A server binds seconds after its port was planned, and two stacks started together would plan the same ones. The
    mark is a name in Linux's abstract socket space: it needs no file and vanishes with its owner, however that dies.
    """

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._marks: list[socket.socket] = []

    def take(self, port: int) -> bool:
        """Reserve `port`; False when something listens on it or another run reserved it."""
        if not _bindable(port):
            return False
        if sys.platform != "linux":
            return True
        mark = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            mark.bind(f"\0turnstream-port-{port}")
        except OSError:
            mark.close()
            return False
        self._marks.append(mark)
        return True

    def close(self) -> None:
        """Give every port back. Calling it twice is harmless."""
        while self._marks:
            self._marks.pop().close()


def _bindable(port: int) -> bool:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        # A port that a finished run left in TIME_WAIT is free for a server, so it has to be free here too.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
