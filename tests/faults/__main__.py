"""``python -m tests.faults``: break things for a while, and say whether the promises held."""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.machine import RESULTS, describe_machine
from tests.faults.checker import check
from tests.faults.dump import read_dump
from tests.faults.operations import read_operations
from tests.faults.report import Report, summarize
from tests.faults.run import CLIENTS, DUMP_FILE, OPERATIONS_FILE, RunOptions, run
from tests.faults.schedule import Fault
from turnstream.local_stack.errors import StackError

HELD: Final = 0
BROKEN: Final = 1
COULD_NOT_RUN: Final = 2
VIOLATIONS_SHOWN_MAX: Final = 40


def main() -> int:
    """Run, report, keep the figures. 0: every promise held; 1: some did not; 2: it could not run."""
    options = _options()
    if options.recheck is not None:
        return _show(_recheck(options.recheck), options)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="turnstream-faults-"))
    out = Console(stderr=True)

    def tell(turns: int, fault: Fault | None) -> None:
        if options.json:
            done = None if fault is None else {"kind": fault.kind, "target": fault.target, "seconds": fault.seconds}
            sys.stdout.write(json.dumps({"turns": turns, "fault": done}) + "\n")
        elif fault is not None:
            seconds = f" {fault.seconds} s" if fault.seconds else ""
            out.print(f"turn {turns:>5}/{options.turns}  {fault.kind} {fault.target}{seconds}")

    try:
        report = run(RunOptions(options.turns, options.seed, folder, options.clients, on_progress=tell))
    except (StackError, ValueError) as error:
        out.print(f"could not run: {error}")
        return COULD_NOT_RUN
    out.print(f"operation log and dump: {folder}")
    return _show(report, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--turns", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--json", action="store_true", help="progress and report as JSON lines")
    parser.add_argument("--keep", type=Path, help="folder for the operation log and the dump")
    parser.add_argument("--recheck", type=Path, help="check what an earlier run kept, and run nothing")
    return parser.parse_args()


def _recheck(folder: Path) -> Report:
    operations = list(read_operations((folder / OPERATIONS_FILE).read_text("utf-8").split("\n")))
    with (folder / DUMP_FILE).open(encoding="utf-8") as lines:
        dump = read_dump(lines)
    return summarize(operations, dump, check(operations, dump))


def _show(report: Report, options: argparse.Namespace) -> int:
    if options.json:
        sys.stdout.write(json.dumps(report.as_json()) + "\n")
    else:
        _print(report)
    if options.recheck is None:
        RESULTS.mkdir(exist_ok=True)
        command = f"make faults TURNS={options.turns} SEED={options.seed}"
        kept = {"command": command, "machine": describe_machine(), "results": report.as_json()}
        (RESULTS / f"faults-{options.seed}.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return BROKEN if report.violations else HELD


def _print(report: Report) -> None:
    out = Console(width=120)
    for title, counts in (("Turns", report.turns), ("Faults", report.faults), ("Clients", report.clients)):
        table = Table("what", "count", title=title)
        for name, count in sorted(counts.items()):
            table.add_row(name, str(count))
        out.print(table)
    pauses = Table("fault", "pauses", "p50 s", "max s", title="Silences of clients")
    for row in report.pauses:
        pauses.add_row(row.fault, str(row.count), f"{row.p50_s:.2f}", f"{row.max_s:.2f}")
    out.print(pauses)
    for violation in report.violations[:VIOLATIONS_SHOWN_MAX]:
        out.print(f"[red]{violation.check}[/]  {violation.turn_id}  {violation.detail}", soft_wrap=True)
    out.print(
        f"{report.process_faults} process faults, {report.server_faults} server faults, {report.seconds:.0f} s, "
        f"{len(report.violations)} violations"
    )


if __name__ == "__main__":
    sys.exit(main())
