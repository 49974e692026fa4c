"""Every code that a client may see in an error is in the table of `docs/api.md`, and the table names no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("schemas", "producers", "stream_processors", "consumers", "turnstream")
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| \d{3} \| (.+?) \|", re.MULTILINE)
CODE = re.compile(r"`([a-z_]+)`")

TREES = [ast.parse(file.read_text(encoding="utf-8")) for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
NODES = [node for tree in TREES for node in ast.walk(tree)]
# Where a function takes the code when it is not named: `invalid_request(message, param, code)`.
PLACES = {
    node.name: names.index("code")
    for node in NODES
    if isinstance(node, ast.FunctionDef) and "code" in (names := [one.arg for one in node.args.args])
}


def texts(value: ast.expr | None) -> Iterator[str]:
    """The text that ``value`` is, if it is one."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value


def given(call: ast.Call) -> Iterator[str]:
    """The code among the arguments of a call."""
    for keyword in call.keywords:
        if keyword.arg == "code":
            yield from texts(keyword.value)
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    place = PLACES.get(name)
    if place is not None and place < len(call.args):
        yield from texts(call.args[place])


def defaults(function: ast.FunctionDef) -> Iterator[str]:
    """The code that a function takes when none is given."""
    arguments = function.args.args
    for argument, value in zip(reversed(arguments), reversed(function.args.defaults), strict=False):
        if argument.arg == "code":
            yield from texts(value)


def assigned(node: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    """A code that has a name: `X_CODE = ...`, or `message, code = ...`."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    for target in targets:
        if isinstance(target, ast.Name) and target.id.endswith("_CODE"):
            yield from texts(node.value)
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            for name, value in zip(target.elts, node.value.elts, strict=True):
                if isinstance(name, ast.Name) and name.id == "code":
                    yield from texts(value)


def codes_in_the_sources() -> set[str]:
    """What the sources call a code."""
    found: set[str] = set()
    for node in NODES:
        if isinstance(node, ast.Call):
            found.update(given(node))
        elif isinstance(node, ast.FunctionDef):
            found.update(defaults(node))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            found.update(assigned(node))
    return found


def codes_on_the_page() -> set[str]:
    """The second column of the table of errors."""
    return {code for cell in ROW.findall(PAGE[PAGE.index("## Errors") :]) for code in CODE.findall(cell)}


def test_every_code_is_documented() -> None:
    assert codes_in_the_sources() - codes_on_the_page() == set()


def test_every_documented_code_is_in_the_sources() -> None:
    spelled = {node.value for node in NODES if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert codes_on_the_page() - spelled == set()
