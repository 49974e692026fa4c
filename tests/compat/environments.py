"""What the suites of others run in: a Python environment and a Node.js project, apart from the project's own."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.doc_examples import PAGE, programs

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
LOCK: Final = HERE / "requirements.lock"
NODE_SOURCES: Final = HERE / "node"
NODE_LOCK: Final = NODE_SOURCES / "package-lock.json"
# The folder of the examples below the Node.js project.
EXAMPLES: Final = "examples"
DONE_FILE: Final = ".installed"
# npm prints funding and audit notices, and asks a registry for newer versions of itself, unless told not to.
NPM_QUIET: Final = ("--no-fund", "--no-audit", "--no-update-notifier", "--loglevel=error")


class SetUpFailed(Exception):
    """An environment could not be made; the text says what the installer said last."""


@dataclass(frozen=True)
class Environments:
    """Both environments below one folder, which git ignores."""

    home: Path

    @property
    def python(self) -> Path:
        """The interpreter of the Python environment."""
        return self.home / "venv" / "bin" / "python"

    @property
    def node(self) -> Path:
        """Node.js, which the Python environment holds as a package."""
        return self.python.with_name("node")

    @property
    def node_project(self) -> Path:
        """The folder with ``node_modules``, and a copy of our Node.js tests: packages are found from a file upwards."""
        return self.home / "node"

    def install(self) -> None:
        """Make what is missing or was made from another lock file. Raises SetUpFailed."""
        venv = self.home / "venv"
        if _stale(venv, LOCK):
            shutil.rmtree(venv, ignore_errors=True)
            _run((sys.executable, "-m", "venv", str(venv)))
            pip = (str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            _run((*pip, "--require-hashes", "-r", str(LOCK)))
            _mark(venv, LOCK)
        if _stale(self.node_project, NODE_LOCK):
            shutil.rmtree(self.node_project, ignore_errors=True)
            self._copy_sources()
            _run((str(self.python.with_name("npm")), "ci", *NPM_QUIET), cwd=self.node_project, path=self.python.parent)
            _mark(self.node_project, NODE_LOCK)
        self._copy_sources()

    def _copy_sources(self) -> None:
        shutil.copytree(NODE_SOURCES, self.node_project, dirs_exist_ok=True)
        examples = self.node_project / EXAMPLES
        shutil.rmtree(examples, ignore_errors=True)
        examples.mkdir()
        for program in programs(PAGE.read_text(encoding="utf-8"), "typescript"):
            (examples / f"{program.name}.ts").write_text(program.code, encoding="utf-8")


def _stale(folder: Path, lock: Path) -> bool:
    done = folder / DONE_FILE
    return not done.is_file() or done.read_text(encoding="utf-8") != _digest(lock)


def _mark(folder: Path, lock: Path) -> None:
    (folder / DONE_FILE).write_text(_digest(lock), encoding="utf-8")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _run(command: Sequence[str], cwd: Path | None = None, path: Path | None = None) -> None:
    environ: Mapping[str, str] = os.environ
    if path is not None:
        environ = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ.get('PATH', '')}"}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise SetUpFailed(f"{' '.join(command[:3])} ... : {said[-1] if said else f'exit {done.returncode}'}")
