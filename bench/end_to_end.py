"""What the pipeline adds to a chat, against the same model server called directly, in turn, in one run.

    python bench/end_to_end.py [--backend openai|triton] [--loads 1,50,300] [--peer litellm] [--curve]

Each load is a number of clients that ask, read the answer to its end and ask again. The model answers 60 tokens, the
first after 50 ms and one every 20 ms; "flat out" it answers 600 at once. ``added`` is the difference of the percentiles
of both sides. Every answer is compared with the text that the model was asked for, token by token. ``--curve`` doubles
the clients until a side bends: its p99 added is ten times that of its first load, or it holds less than 95 % of what is
offered.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from kept import keep_if_quiet, wait_for_quiet
from peers import litellm
from rich.console import Console
from rich.table import Table
from sides import Load, Pooled, Side, fake_upstream, run_load
from stacks import MODEL, bench_stack, ours, pids

from turnstream.local_stack.stack import Stack

DIRECT: Final = "direct"
OURS: Final = "turnstream"
PEERS: Final[dict[str, Callable[[str], Any]]] = {"litellm": litellm.started}
FLAT_OUT: Final = Load(32, tokens=600, first_ms=0, gap_ms=0, seconds=5, warm_up=2)
WARM: Final = Load(8, tokens=20, first_ms=0, gap_ms=0, seconds=2, warm_up=1)
DEFAULT_LOADS: Final = {"openai": "1,50,300", "triton": "1,50,200"}
CURVE_STREAMS_MAX: Final = 2_048
BEND_FACTOR: Final = 10
HELD_SHARE_MIN: Final = 0.95


@contextmanager
def sides(backend: str, peers: Sequence[str]) -> Iterator[dict[str, Side]]:
    """All sides, running: the model server itself, Turnstream before it, and the peers before it."""
    with ExitStack() as running:
        found: dict[str, Side] = {}
        if backend == "openai":
            upstream, pid = running.enter_context(fake_upstream())
            stack = running.enter_context(bench_stack(upstream))
            found[DIRECT] = Side(DIRECT, upstream, watch={"upstream": pid})
            found[OURS] = _ours(stack, {"upstream": pid})
            for name in peers:
                found[name] = running.enter_context(PEERS[name](upstream))
        else:
            stack = running.enter_context(bench_stack())
            triton = {"triton": pids(stack)["triton"]}
            found[DIRECT] = Side(DIRECT, triton=stack.endpoints.triton_grpc or "", watch=triton, same=True)
            found[OURS] = _ours(stack, {}, same=True)
        yield found


def _ours(stack: Stack, beside: dict[str, int], *, same: bool = False) -> Side:
    ends = stack.endpoints
    return Side(OURS, ends.base_url or "", ends.key or "", MODEL, watch=pids(stack) | beside, same=same)


def compare(found: dict[str, Side], load: Load, rounds: int) -> dict[str, Any]:
    """All sides at one load, in turn, ``rounds`` times; the loads of a side are pooled."""
    pooled = {name: Pooled() for name in found}
    for turn in range(rounds):
        # Whoever comes first in a round comes last in the next: what drifts strikes all alike.
        for name in sorted(found, reverse=bool(turn % 2)):
            pooled[name].add(run_load(found[name], load))
    row: dict[str, Any] = {name: pooled[name].figures() for name in found}
    direct = row[DIRECT]
    for name in found:
        figures = row[name]
        figures["held"] = round(figures["tokens_per_s"] / min(load.offered_per_s, max(1, direct["tokens_per_s"])), 3)
        for share in ("p50", "p99"):
            figures[f"added_{share}_ms"] = round(figures[f"ttft_{share}_ms"] - direct[f"ttft_{share}_ms"], 1)
        if name != OURS:
            continue
        row |= {f"added_{share}_ms": figures[f"added_{share}_ms"] for share in ("p50", "p99")}
        spent = figures["cpu_us_per_token"]
        mine = ours(list(spent))
        row["cpu_us_per_token"] = {part: spent[part] for part in mine}
        row["servers_cpu_us_per_token"] = {
            part: cost for part, cost in spent.items() if part not in {*mine, "client", "upstream"}
        }
    return row


def measure(found: dict[str, Side], loads: Sequence[Load], rounds: int) -> dict[str, Any]:
    """Every load, by its name."""
    warm(found)
    return {load_name(load): compare(found, load, rounds) for load in loads}


def warm(found: dict[str, Side]) -> None:
    """Let caches fill and code be compiled before anything is counted."""
    for side in found.values():
        run_load(side, WARM)


def load_name(load: Load) -> str:
    """What the results call it."""
    return f"{load.streams} {'paced' if load.gap_ms else 'flat out'}"


def curve(found: dict[str, Side], seconds: float) -> dict[str, Any]:
    """1, 2, 4 ... clients on every side, until it bends."""
    warm(found)
    points: dict[str, Any] = {}
    bent: set[str] = set()
    streams = 1
    while streams <= CURVE_STREAMS_MAX and bent < {*found} - {DIRECT}:
        left = {name: side for name, side in found.items() if name not in bent}
        row = points[str(streams)] = compare(left, Load(streams, seconds=seconds, warm_up=3), 1)
        for name in left:
            first = max(1.0, points["1"][name]["added_p99_ms"])
            if row[name]["added_p99_ms"] > BEND_FACTOR * first or row[name]["held"] < HELD_SHARE_MIN:
                bent.add(name)
        streams *= 2
    return points


def show(results: dict[str, Any], title: str) -> None:
    """One row per load and side."""
    columns = ("clients", "side", "TTFT p50 (p99)", "added p50 (p99)", "gap p99", "tokens/s", "held", "wrong tokens")
    table = Table(*columns, "failed", "CPU a token", "with the servers", title=title)
    for name, row in results.items():
        for side, figures in row.items():
            if not isinstance(figures, dict) or "ttft_p50_ms" not in figures:
                continue
            mine, servers = _cpu(row, side, figures)
            table.add_row(
                name,
                side,
                f"{figures['ttft_p50_ms']} ({figures['ttft_p99_ms']}) ms",
                "" if side == DIRECT else f"{figures['added_p50_ms']:+} ({figures['added_p99_ms']:+}) ms",
                f"{figures['gap_p99_ms']} ms",
                f"{figures['tokens_per_s']:,}",
                f"{figures['held']:.1%}",
                str(figures["token_faults"]),
                str(figures["failed"]),
                f"{mine:.0f} us",
                f"{servers:.0f} us" if servers else "",
            )
        table.add_section()
    Console(width=170).print(table)


def show_parts(results: dict[str, Any]) -> None:
    """CPU of a token by process."""
    table = Table("clients", "part", "CPU a token", title="Where our CPU goes, and that of the servers")
    for name, row in results.items():
        for group in ("cpu_us_per_token", "servers_cpu_us_per_token"):
            for part, cost in row[group].items():
                table.add_row(name, part, f"{cost} us")
        table.add_section()
    Console(width=100).print(table)


def _cpu(row: dict[str, Any], side: str, figures: dict[str, Any]) -> tuple[float, float]:
    if side == OURS:
        mine = sum(row["cpu_us_per_token"].values())
        return mine, mine + sum(row["servers_cpu_us_per_token"].values())
    spent = figures["cpu_us_per_token"]
    return sum(cost for part, cost in spent.items() if part != "client" and (side == DIRECT or part != "upstream")), 0


def main() -> None:
    """Start all sides, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("openai", "triton"), default="openai")
    parser.add_argument("--loads", default="", help="clients with commas between; default 1,50,300 (Triton: 1,50,200)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6, help="that are counted of each load")
    parser.add_argument("--peer", action="append", choices=tuple(PEERS), default=[], help="also measure this gateway")
    parser.add_argument("--curve", action="store_true", help="double the clients until it bends, instead of --loads")
    options = parser.parse_args()
    if options.peer and options.backend != "openai":
        parser.error("peers stand before the OpenAI-compatible backend")
    busy = wait_for_quiet()
    numbers = [int(text) for text in (options.loads or DEFAULT_LOADS[options.backend]).split(",")]
    with sides(options.backend, options.peer) as found:
        if options.curve:
            results = curve(found, options.seconds)
        else:
            loads = [Load(number, seconds=options.seconds) for number in numbers]
            results = measure(found, [*loads, FLAT_OUT], options.rounds)
    show(results, f"Turnstream against its model server ({options.backend}) called directly")
    if not options.curve:
        show_parts(results)
    # The plan reads the results under these names.
    name = "end-to-end" if options.backend == "triton" else "end-to-end-openai"
    keep_if_quiet(f"{name}-curve" if options.curve else name, results, busy)


if __name__ == "__main__":
    main()
