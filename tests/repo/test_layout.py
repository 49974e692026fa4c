"""The rules of the code base that no linter knows."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from schemas.metrics import METRICS
from schemas.topics import ALL_TOPICS

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "producers", "stream_processors", "consumers", "turnstream")
SIBLINGS = ("producers", "stream_processors", "consumers")
LINES_MAX = 300
TEST_LINES_MAX = 500
FUNCTION_LINES_MAX = 50
BANNED_NAMES = {"utils", "helpers", "common", "manager", "util", "helper", "misc"}
# What a package index or this machine would be called; assembled so that this file does not name them either.
HOSTS = re.compile(
    "|".join(("pypi" + r"\.org", "pythonhosted" + r"\.org", "repo1?" + r"\.maven", r"npmjs\.", r"docker" + r"\.io"))
)
MACHINE_PATHS = re.compile("|".join(("/ho" + "me/", "/ro" + "ot/", "/wo" + "rk/", "/Us" + "ers/", r"[A-Z]:\\\\")))


def python_files(*folders: str) -> list[Path]:
    return sorted(
        file for folder in folders for file in (ROOT / folder).rglob("*.py") if "__pycache__" not in file.parts
    )


def tracked_files() -> list[Path]:
    """Files that git tracks or would track."""
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S603
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]


def relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def strings(file: Path) -> Iterator[str]:
    """String literals of a module that are not docstrings."""
    tree = ast.parse(text_of(file))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def stage_folders() -> list[Path]:
    return sorted(
        folder
        for sibling in SIBLINGS
        for folder in (ROOT / sibling).iterdir()
        if folder.is_dir() and any(folder.glob("[!_]*.py"))
    )


def test_no_other_distribution_owns_our_names() -> None:
    owners = importlib.metadata.packages_distributions()
    for package in PACKAGES:
        assert set(owners.get(package, ["turnstream"])) == {"turnstream"}


def test_the_docker_folder_hides_nothing() -> None:
    assert not list((ROOT / "docker").rglob("__init__.py"))


def test_imports_go_one_way() -> None:
    command = (sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")
    linted = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)  # noqa: S603
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_files_stay_short() -> None:
    limits = dict.fromkeys(python_files(*PACKAGES, "bench"), LINES_MAX) | dict.fromkeys(
        python_files("tests"), TEST_LINES_MAX
    )
    lengths = {file: len(text_of(file).splitlines()) for file in limits}
    assert not {relative(file): length for file, length in lengths.items() if length > limits[file]}


def test_functions_stay_short() -> None:
    long = {
        f"{relative(file)}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for file in python_files(*PACKAGES, "tests", "bench")
        for node in ast.walk(ast.parse(text_of(file)))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not {where: lines for where, lines in long.items() if lines > FUNCTION_LINES_MAX}


def test_every_stage_has_a_core_and_a_stage() -> None:
    stages = [folder for folder in stage_folders() if folder.parent.name != "producers" or folder.name == "ingest"]
    assert stages, "no stage was found"
    missing = [
        f"{relative(folder)}/{name}"
        for folder in stages
        for name in ("core.py", "stage.py")
        if not (folder / name).is_file()
    ]
    assert not missing


def test_every_api_has_its_routes() -> None:
    apis = {folder for folder in (ROOT / "producers").iterdir() if any(folder.glob("[!_]*.py"))}
    named = {folder.name for folder in apis if (folder / "routes.py").is_file()}
    assert named == {folder.name for folder in apis} - {"audit", "http", "ingest", "redrive", "replay"}


def test_a_core_touches_nothing() -> None:
    """No clock, randomness, network or event loop where decisions are made."""
    banned = {"asyncio", "time", "random", "secrets", "socket", "os", "aiokafka", "redis", "cassandra", "httpx2"}
    found = [
        f"{relative(file)}: {name}"
        for folder in stage_folders()
        for file in folder.glob("core.py")
        for name in imported(file)
        if name in banned
    ]
    assert not found


def imported(file: Path) -> set[str]:
    tree = ast.parse(text_of(file))
    plain = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    return plain | {
        node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }


def test_names_say_what_a_file_is_for() -> None:
    parts = {relative(file): {*file.parent.parts, file.stem} for file in python_files(*PACKAGES, "tests", "bench")}
    assert not [path for path, names in parts.items() if names & BANNED_NAMES]


def test_test_files_have_unique_names_and_folders_are_no_packages() -> None:
    files = [file for file in python_files("tests") if file.name.startswith("test_")]
    assert len({file.name for file in files}) == len(files)
    packages = {relative(file.parent) for file in (ROOT / "tests").rglob("__init__.py")}
    assert packages <= {"tests", "tests/support", "tests/faults", "tests/compat", "tests/conformance"}


def test_a_topic_name_is_spelled_once() -> None:
    names = {topic.name for topic in ALL_TOPICS}
    outside = [file for file in python_files(*PACKAGES) if file.is_relative_to(ROOT / "schemas") is False]
    spelled = [f"{relative(file)}: {text}" for file in outside for text in strings(file) if text in names]
    assert not spelled


def test_a_metric_name_is_one_of_the_contract() -> None:
    name = re.compile(r"turnstream(_[a-z]+)+_(total|seconds|bytes|records|open|in_flight|partitions)")
    used = {text: relative(file) for file in python_files(*PACKAGES) for text in strings(file) if name.fullmatch(text)}
    assert {text: file for text, file in used.items() if text not in METRICS} == {}


def test_packages_do_not_print() -> None:
    found = [
        f"{relative(file)}:{node.lineno}"
        for file in python_files(*PACKAGES)
        for node in ast.walk(ast.parse(text_of(file)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not found


def test_no_file_names_a_package_host_or_a_machine() -> None:
    found = [
        f"{relative(file)}:{number}"
        for file in tracked_files()
        if file.suffix not in {".lock", ".png"} and file.stat().st_size < 1_000_000
        for number, line in enumerate(text_of(file).splitlines(), 1)
        if HOSTS.search(line) or MACHINE_PATHS.search(line)
    ]
    assert not found


def comments(file: Path) -> Iterator[tuple[int, str]]:
    with tokenize.open(file) as source:
        for token in tokenize.generate_tokens(source.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def test_an_exception_names_its_rule() -> None:
    bare = [
        f"{relative(file)}:{line}"
        for file in python_files(*PACKAGES, "tests", "bench")
        for line, comment in comments(file)
        if re.match(r"#\s*(noqa(?!: ?[A-Z])|type: ignore(?!\[))", comment)
    ]
    assert not bare
