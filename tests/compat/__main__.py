"""``python -m tests.compat``: run the clients of others against a Turnstream, and say which of them work."""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.compat.environments import ROOT, Environments, SetUpFailed
from tests.compat.suites import SUITES, Suite
from tests.support.full_stack import full_stack
from turnstream.local_stack.errors import StackError

PASSED: Final = 0
FAILED: Final = 1
COULD_NOT_RUN: Final = 2
SUITE_SECONDS_MAX: Final = 900.0


def main() -> int:
    """Set up, start, run, report. 0: every suite passed; 1: some did not; 2: they could not be run."""
    options = _options()
    out = Console(stderr=True)
    environments = Environments(ROOT / ".turnstream" / "compat")
    try:
        out.print("Setting up the clients (a minute, once) ...")
        environments.install()
        with _endpoint(options, out) as endpoint:
            chosen = [suite for suite in SUITES if not options.suites or suite.name in options.suites]
            results = {suite: _run(suite, environments, endpoint, out) for suite in chosen}
    except (SetUpFailed, StackError, OSError) as error:
        out.print(f"could not run: {error}", markup=False)
        return COULD_NOT_RUN
    return _report(results, out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.compat", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"any of {', '.join(one.name for one in SUITES)}")
    parser.add_argument("--base-url", help="a Turnstream that runs already, up to and including /v1")
    parser.add_argument("--key", default=os.environ.get("OPENAI_API_KEY"), help="its key (else $OPENAI_API_KEY)")
    options = parser.parse_args()
    unknown = set(options.suites) - {suite.name for suite in SUITES}
    if unknown:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    if options.base_url and not options.key:
        parser.error("--base-url needs a key")
    return options


@contextmanager
def _endpoint(options: argparse.Namespace, out: Console) -> Iterator[Mapping[str, str]]:
    """The variables from which every client learns where to go."""
    if options.base_url:
        yield {"OPENAI_BASE_URL": options.base_url, "OPENAI_API_KEY": options.key}
        return
    out.print("Starting Turnstream on free ports ...")
    with tempfile.TemporaryDirectory(prefix="turnstream-compat-") as home, full_stack(Path(home) / "home") as running:
        yield {"OPENAI_BASE_URL": running.base_url, "OPENAI_API_KEY": running.key}


def _run(suite: Suite, environments: Environments, endpoint: Mapping[str, str], out: Console) -> bool:
    out.rule(suite.title)
    command: Sequence[str] = suite.command(environments)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "PYTHON"))}
    try:
        done = subprocess.run(  # noqa: S603 - a command of our own table
            command,
            cwd=environments.node_project,
            env={**environ, **endpoint},
            timeout=SUITE_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        out.print(f"{suite.name}: not done within {SUITE_SECONDS_MAX:.0f} s")
        return False
    return done.returncode == 0


def _report(results: Mapping[Suite, bool], out: Console) -> int:
    table = Table("suite", "what", "result")
    for suite, passed in results.items():
        table.add_row(suite.name, suite.title, "passed" if passed else "[red]failed")
    out.print(table)
    return PASSED if all(results.values()) else FAILED


if __name__ == "__main__":
    sys.exit(main())
