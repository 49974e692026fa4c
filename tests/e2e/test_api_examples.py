"""The curl and Python examples of ``docs/api.md``, run as they stand; ``make compat`` runs those in TypeScript."""

import asyncio
import os
import sys

import pytest

from tests.support.doc_examples import PAGE, Program, programs
from tests.support.full_stack import TURN_SECONDS_MAX, FullStack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

# A reader sees what curl says; a test must hear it: an error status is a failure, and so is each command's.
STRICT_SHELL = 'set -euo pipefail\ncurl() { command curl --silent --show-error --fail-with-body "$@"; }\n'


def all_programs() -> list[Program]:
    page = PAGE.read_text(encoding="utf-8")
    return [*programs(page, "bash"), *programs(page, "python")]


@pytest.mark.parametrize("program", all_programs(), ids=lambda program: program.name)
async def test_the_example_runs(turnstream: FullStack, program: Program) -> None:
    interpreter = (sys.executable, "-W", "error") if program.language == "python" else ("bash",)
    code = STRICT_SHELL + program.code if program.language == "bash" else program.code
    process = await asyncio.create_subprocess_exec(
        *interpreter,
        "-c",
        code,
        env={**os.environ, "OPENAI_BASE_URL": turnstream.base_url, "OPENAI_API_KEY": turnstream.key},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(TURN_SECONDS_MAX):
        printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode(errors="replace")
    assert printed
