"""Every ``turnstream ...`` command line in the documentation is one that the command line knows, with its options."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from turnstream.cli import app

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^\s*```[a-z]*\n(.*?)^\s*```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(turnstream [^`]+)`")
# Notation for what may be left out or chosen.
NOTATION = re.compile(r"[\[\]<>]|\.\.\.|\|.*$|\s#.*$|\\$")


def command_lines(text: str) -> Iterator[str]:
    """What is written as a command: whole lines of code blocks, and code in the text."""
    for block in FENCED.findall(text):
        for line in block.splitlines():
            command = re.sub(r"^\s*(?:\$ )?(?:[A-Z][A-Z0-9_]*=\S+ )*", "", line)
            if command.startswith("turnstream "):
                yield command
    yield from INLINE.findall(FENCED.sub("", text))


def problem(line: str) -> str | None:
    """What is wrong with a command line, if anything."""
    words = shlex.split(NOTATION.sub("", line))[1:]
    # Typer carries a click of its own: groups are told by what they have.
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        name = words.pop(0).rstrip(",;:")
        if name.isupper():
            return None  # A word that stands for several commands.
        found = command.commands.get(name)
        if found is None:
            return f"no command {name!r}"
        command = found
    options = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
    unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in options]
    return f"no option {', '.join(unknown)}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_documented_commands_exist(page: Path) -> None:
    lines = list(command_lines(page.read_text(encoding="utf-8")))
    assert {line: wrong for line in lines if (wrong := problem(line)) is not None} == {}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("turnstream lag --by-partition --max-seconds 5", None),
        ("turnstream keys revoke ID", None),
        ("turnstream logs [part] [-f]", None),
        ("turnstream nothing", "no command 'nothing'"),
        ("turnstream lag --fast", "no option --fast"),
    ],
)
def test_a_wrong_command_is_found(line: str, expected: str | None) -> None:
    assert problem(line) == expected
