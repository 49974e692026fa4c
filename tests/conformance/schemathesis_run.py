"""One run of Schemathesis's command line against an edge, and what came of it."""

import asyncio
import json
import math
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2

HERE: Final = Path(__file__).parent
SCHEMA_PATH: Final = "/openapi.json"
# The phases before the fuzzing make cases of their own, and a failing operation makes fewer.
SPARE: Final = 1.2
CASES_OF_AN_OPERATION_MIN: Final = 5


@dataclass(frozen=True)
class Target:
    """An edge: its URL without ``/v1``, a key, and values that exist there by the name of their parameter."""

    url: str
    key: str
    known: Mapping[str, str]


@dataclass(frozen=True)
class Outcome:
    """``failures`` is empty when every answer was as documented. ``output`` is the report for a person."""

    cases: int
    failures: tuple[str, ...]
    complete: bool
    output: str


@dataclass(frozen=True)
class Wish:
    """How much to try: ``cases`` requests or more, within ``seconds_max``, in these of Schemathesis's phases."""

    cases: int
    seconds_max: float
    phases: str = "examples,coverage,fuzzing,stateful"
    seed: int | None = None


async def run(target: Target, wish: Wish, *, shown: bool) -> Outcome:
    """Try an edge; with ``shown`` the progress goes to the terminal.

    Raises TimeoutError when it takes longer than was wished; the process is gone then.
    """
    examples = max(CASES_OF_AN_OPERATION_MIN, math.ceil(wish.cases * SPARE / await _operations(target.url)))
    with tempfile.TemporaryDirectory(prefix="turnstream-conformance-") as folder:
        report = Path(folder) / "report.json"
        process = await asyncio.create_subprocess_exec(
            *_command(target, examples, report, wish),
            cwd=folder,
            env={
                **os.environ,
                "SCHEMATHESIS_HOOKS": "tests.conformance.hooks",
                "PYTHONPATH": str(HERE.parents[1]),
                "TURNSTREAM_CONFORMANCE_KNOWN": json.dumps(dict(target.known)),
            },
            stdout=None if shown else asyncio.subprocess.PIPE,
            stderr=None if shown else asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(wish.seconds_max):
                printed, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return _outcome(report, (printed or b"").decode(errors="replace"))


async def _operations(url: str) -> int:
    async with httpx2.AsyncClient(base_url=url) as client:
        paths: dict[str, Any] = (await client.get(SCHEMA_PATH)).json()["paths"]
    return sum(len(methods) for methods in paths.values())


def _command(target: Target, examples: int, report: Path, wish: Wish) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "schemathesis.cli"),
        *("--config-file", str(HERE / "schemathesis.toml")),
        *("run", target.url + SCHEMA_PATH),
        *("--header", f"Authorization: Bearer {target.key}"),
        *("--max-examples", str(examples)),
        *("--continue-on-failure", "--generation-database", "none", "--warnings", "off"),
        *("--report", "json", "--report-json-path", str(report)),
        *("--phases", wish.phases),
        *(() if wish.seed is None else ("--seed", str(wish.seed))),
    )


def _outcome(report: Path, output: str) -> Outcome:
    if not report.is_file():
        raise RuntimeError(f"Schemathesis made no report:\n{output}")
    told: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    failures = [f"{one['title']}: {', '.join(one['operations'])}" for one in told["failures"]]
    errors = [f"error: {one}" for one in told["errors"]]
    return Outcome(told["test_cases"]["generated"], (*failures, *errors), bool(told["complete"]), output)
