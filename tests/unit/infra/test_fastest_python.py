"""The program that chooses the interpreter for the virtual environment."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).parents[3] / "infra" / "fastest_python.py"
OLD, SLOW, FAST = "/old/python3", "/slow/python3", "/fast/python3"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fastest_python", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_program(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM)]
    return subprocess.run(command, env={"PATH": str(path)}, capture_output=True, text=True, check=False)  # noqa: S603 - the program of the project


def test_a_clearly_faster_build_of_the_same_version_is_taken(program: ModuleType) -> None:
    slow, fast = program.Build(SLOW, (3, 11), 1.0), program.Build(FAST, (3, 11), 0.8)

    assert program.choose(slow, [slow, fast]) == fast


def test_python3_stays_where_another_is_hardly_faster(program: ModuleType) -> None:
    slow, fast = program.Build(SLOW, (3, 11), 1.0), program.Build(FAST, (3, 11), 0.95)

    assert program.choose(slow, [slow, fast]) == slow


@pytest.mark.parametrize(("version", "whole"), [((3, 12), True), ((3, 11), False)])
def test_another_version_or_half_a_python_is_not_taken(
    program: ModuleType, version: tuple[int, int], *, whole: bool
) -> None:
    slow, fast = program.Build(SLOW, (3, 11), 1.0), program.Build(FAST, version, 0.5, whole=whole)

    assert program.choose(slow, [slow, fast]) == slow


def test_a_python3_that_lacks_a_part_is_still_better_than_none(program: ModuleType) -> None:
    half = program.Build(SLOW, (3, 11), 1.0, whole=False)

    assert program.choose(half, [half]) == half


def test_where_python3_is_too_old_the_fastest_that_is_new_enough_is_taken(program: ModuleType) -> None:
    old, slow, fast = (
        program.Build(OLD, (3, 9), 0.1),
        program.Build(SLOW, (3, 11), 1.0),
        program.Build(FAST, (3, 12), 0.9),
    )

    assert program.choose(old, [old, slow, fast]) == fast
    assert program.choose(old, [old]) is None


def test_the_path_is_searched_and_what_does_not_run_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to(sys.executable)
    (tmp_path / "python3.12").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "python3.12").chmod(0o755)

    done = run_program(tmp_path)

    assert Path(done.stdout.strip()).resolve() == Path(sys.executable).resolve()


def test_a_path_without_any_python_is_one_line_and_a_failure(tmp_path: Path) -> None:
    done = run_program(tmp_path)

    assert done.returncode == 1
    assert done.stderr == "Turnstream needs Python 3.11 or newer; set PYTHON=\n"
