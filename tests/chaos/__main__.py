"""``python -m tests.chaos``: hurt a running Turnstream, and find out what its promises are worth.

Exit codes: 0 all promises held, 1 some did not, 2 the run could not be done.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.machine import describe_machine
from tests.chaos import harness
from tests.chaos.report import show, summary
from tests.chaos.schedule import make_schedule
from tests.chaos.workload import make_workload
from tests.support.full_stack import full_stack
from turnstream.local_stack.errors import StackError

HELD: Final = 0
BROKEN: Final = 1
NOT_RUN: Final = 2
RESULTS: Final = Path("bench/results")


class Progress:
    """A line every few seconds."""

    def __init__(self, console: Console, turns: int, faults: int) -> None:
        self._console = console
        self._turns = turns
        self._faults = faults
        self._said_s = 0.0

    def __call__(self, begun: int, injected: int) -> None:
        """So many turns begun, so many faults done."""
        if time.monotonic() - self._said_s >= 5:
            self._said_s = time.monotonic()
            self._console.print(f"turns {begun}/{self._turns}, faults {injected}/{self._faults}")


def main() -> int:
    """Run, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=1000)
    parser.add_argument("--faults", type=int, help="default: one for every four turns")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--keep", type=Path, help="a folder for the operations and the logs")
    options = parser.parse_args()
    faults = options.faults if options.faults is not None else options.turns // 4
    console = Console(width=120)
    console.print("starting two of everything ...")
    with tempfile.TemporaryDirectory(prefix="turnstream-chaos-") as made:
        folder = options.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with full_stack(folder / "home", 2, harness.SETTINGS, harness.POLICY) as stack:
                result = asyncio.run(
                    harness.run(
                        stack,
                        make_workload(options.seed, options.turns, options.clients),
                        make_schedule(options.seed, options.turns, faults),
                        seed=options.seed,
                        log_file=folder / "operations.jsonl",
                        on_progress=Progress(console, options.turns, faults),
                    )
                )
        except StackError as error:
            Console(stderr=True).print(f"error: {error}")
            return NOT_RUN
    figures = summary(result.operations, result.injected, result.violations, result.seconds)
    show(console, figures, result.violations)
    command = f"make faults TURNS={options.turns} SEED={options.seed}"
    kept = RESULTS / f"faults-{options.turns}-{options.seed}.json"
    kept.write_text(
        json.dumps({"command": command, "machine": describe_machine(), "results": figures}, indent=2) + "\n"
    )
    console.print(f"kept in {kept}")
    return BROKEN if result.violations else HELD


if __name__ == "__main__":
    sys.exit(main())
