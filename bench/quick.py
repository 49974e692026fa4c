"""A look at what the pipeline adds, in less than two minutes: for continuous integration, which it never fails.

    python bench/quick.py [--seconds 5]

1 and 50 paced streams through the OpenAI-compatible backend, each beside the upstream called directly. Printed are the
ratios to the direct upstream and to the last kept result of ``end_to_end.py``, with the machine that it was kept on.
Nothing is kept: runs this short are for seeing that something became several times slower, not a tenth.
"""

import argparse
import json
from pathlib import Path
from typing import Any, Final

from end_to_end import DIRECT, OURS, load_name, measure, show, sides
from kept import busy_with
from machine import RESULTS, describe_machine
from rich.console import Console
from rich.table import Table
from sides import Load

NAME: Final = "end-to-end-openai"
STREAMS: Final = (1, 50)
DATE: Final = "[0-9]" * 4 + "-[0-9][0-9]-[0-9][0-9]-"


def last_kept() -> Path | None:
    """The newest result, whose names begin with their date."""
    kept = sorted(RESULTS.glob(f"{DATE}{NAME}.json"))
    return kept[-1] if kept else None


def figures(row: dict[str, Any]) -> dict[str, float]:
    """What is compared over time, of one load."""
    ours, direct = row[OURS], row[DIRECT]
    return {
        "TTFT p50, of direct": ours["ttft_p50_ms"] / max(0.1, direct["ttft_p50_ms"]),
        "TTFT p99, of direct": ours["ttft_p99_ms"] / max(0.1, direct["ttft_p99_ms"]),
        "tokens/s, of direct": ours["tokens_per_s"] / max(1, direct["tokens_per_s"]),
        "added p50, ms": row["added_p50_ms"],
        "added p99, ms": row["added_p99_ms"],
        "CPU a token, us": sum(row["cpu_us_per_token"].values()),
    }


def show_ratios(results: dict[str, Any], before: dict[str, Any], source: str) -> None:
    """Now, then, and now over then."""
    table = Table("load", "figure", "now", "last kept", "ratio", title=f"Against {source}")
    for name, row in results.items():
        then = figures(before[name]) if name in before else {}
        for figure, value in figures(row).items():
            old = then.get(figure)
            shown = ("", "") if old is None else (f"{old:.2f}", f"{value / old:.2f}" if old > 0 else "")
            table.add_row(name, figure, f"{value:.2f}", *shown)
        table.add_section()
    Console(width=120).print(table)


def main() -> None:
    """Measure, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    busy = busy_with()
    loads = [Load(streams, seconds=options.seconds) for streams in STREAMS]
    with sides("openai", ()) as found:
        results = measure(found, loads, 1)
    show(results, "Turnstream against its upstream called directly, quick")
    kept = last_kept()
    before = json.loads(kept.read_text()) if kept else {"results": {}, "machine": {}}
    source = f"{kept.name} ({before['machine'].get('cpu')})" if kept else "nothing: no result is kept yet"
    show_ratios(results, before["results"], source)
    notes = []
    if busy is not None:
        notes.append(busy)
    if kept and any(before["machine"].get(part) != describe_machine()[part] for part in ("cpu", "cores")):
        notes.append("the last result is of another machine")
    for load in loads:
        wrong = results[load_name(load)][OURS]["token_faults"] + results[load_name(load)][OURS]["failed"]
        if wrong:
            notes.append(f"{load_name(load)}: {wrong} tokens or answers were wrong, which is a fault and no noise")
    print("\n".join(f"note: {note}" for note in notes))


if __name__ == "__main__":
    main()
