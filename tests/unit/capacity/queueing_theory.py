"""What queueing theory says of one queue before many servers; the simulation is tested against it.

Sources: Erlang's B and C formulas; Allen and Cunneen's approximation for service times that are not exponential.
Rates are per second, times in seconds; ``load`` is the share of busy servers, 0 to 1 (exclusive).
"""

import math


def erlang_b(servers: int, offered: float) -> float:
    """The share that finds all ``servers`` busy when nobody waits; ``offered`` = arrival rate x service time."""
    blocked = 1.0
    # The recursion B(k) = a B(k-1) / (k + a B(k-1)) has no factorials that overflow.
    for count in range(1, servers + 1):
        blocked = offered * blocked / (count + offered * blocked)
    return blocked


def erlang_c(servers: int, load: float) -> float:
    """The share of arrivals that must wait in M/M/k. Raises ValueError when the queue would grow without end."""
    if not 0 <= load < 1:
        raise ValueError(f"a queue at load {load:g} never settles")
    blocked = erlang_b(servers, servers * load)
    return blocked / (1 - load * (1 - blocked))


def wait_mean(servers: int, load: float, service_s: float, service_cv: float = 1.0) -> float:
    """Mean wait in M/G/k, exact for ``service_cv`` 1 (exponential), else Allen and Cunneen's approximation."""
    exponential = erlang_c(servers, load) * service_s / (servers * (1 - load))
    return exponential * (1 + service_cv**2) / 2


def wait_quantile(servers: int, load: float, service_s: float, share: float) -> float:
    """The wait that a ``share`` (0..1) of the arrivals do not exceed in M/M/k: the tail of a wait is exponential."""
    waiting = erlang_c(servers, load)
    if share <= 1 - waiting:
        return 0.0
    return math.log(waiting / (1 - share)) * service_s / (servers * (1 - load))
