"""How far a replay got, on disk: what a run means, written once, and its positions, replaced as it goes."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from producers.replay.plan import Plan, PlannedRange

_RUN_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class RunRecord(BaseModel):
    """What a run is: fixed when it begins. ``options`` are the mode's own, so that a resumed run is the same run."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    mode: str
    plan: Plan
    options: Mapping[str, str] = {}
    started_ms: int


class _Positions(BaseModel):
    model_config = ConfigDict(frozen=True)

    next_offsets: Mapping[int, int] = {}
    selected: int = 0
    done: bool = False


class Checkpoint:
    """One run in a folder: ``<run id>.json`` says what it is, ``<run id>.positions.json`` how far it is.

    Both are replaced as a whole, so that a crash leaves the one before. Use ``begin`` or ``load``.
    """

    def __init__(self, path: Path, run: RunRecord) -> None:
        self._positions_file = path.with_suffix(".positions.json")
        self.run = run
        self._next: dict[int, int] = {}
        self.selected = 0
        self.done = False

    @classmethod
    def begin(cls, path: Path, run: RunRecord) -> Self:
        """A new run. Raises ValueError for a run id that cannot name a file, OSError when nothing can be written."""
        if not _RUN_ID.fullmatch(run.run_id):
            raise ValueError("a run id has lower case letters, digits and dashes")
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, run.model_dump_json())
        checkpoint = cls(path, run)
        checkpoint._store()
        return checkpoint

    @classmethod
    def load(cls, path: Path) -> Self:
        """A run that began before. Raises ValueError, saying where it was looked for, when there is none."""
        try:
            checkpoint = cls(path, RunRecord.model_validate_json(path.read_bytes()))
            positions = _Positions.model_validate_json(checkpoint._positions_file.read_bytes())
        except (OSError, ValidationError):
            raise ValueError(f"no run {path.stem} in {path.parent}") from None
        checkpoint._next = dict(positions.next_offsets)
        checkpoint.selected = positions.selected
        checkpoint.done = positions.done
        return checkpoint

    def start_of(self, planned: PlannedRange) -> int:
        """Where ``planned`` goes on."""
        return max(planned.start, self._next.get(planned.partition.partition, planned.start))

    def advance(self, planned: PlannedRange, next_offset: int, selected: int) -> None:
        """Everything of ``planned`` before ``next_offset`` is done, ``selected`` records of it just now. Durable."""
        self._next[planned.partition.partition] = next_offset
        self.selected += selected
        self._store()

    def finish(self) -> None:
        """The run is complete."""
        self.done = True
        self._store()

    def _store(self) -> None:
        positions = _Positions(next_offsets=self._next, selected=self.selected, done=self.done)
        _replace(self._positions_file, positions.model_dump_json())


def checkpoint_path(folder: Path, run_id: str) -> Path:
    """The file of a run. Raises ValueError for what is no run id."""
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError("a run id has lower case letters, digits and dashes")
    return folder / f"{run_id}.json"


def new_run_id(mode: str, now_ms: int, entropy: bytes) -> str:
    """A run id that sorts by time: mode, Unix seconds, entropy."""
    return f"{mode}-{now_ms // 1000}-{entropy.hex()}"


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
