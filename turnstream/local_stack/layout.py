"""Where everything of one run lies: one folder per checkout, so two checkouts never meet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


def checkout_root() -> Path:
    """Return the checkout that this package lies in, or the working folder when it is an installed wheel."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else Path.cwd()


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders and files of one home. Creating this touches nothing."""

    home: Path
    jars: Path

    @property
    def data(self) -> Path:
        """What `down --wipe` removes: the servers' data, our usage files and how far replays are."""
        return self.home / "data"

    @property
    def logs(self) -> Path:
        """One `<part>.log` a part, and the one before it as `<part>.log.1`."""
        return self.home / "logs"

    @property
    def run(self) -> Path:
        """Generated configuration and the state file; rewritten by every start."""
        return self.home / "run"

    @property
    def scratch(self) -> Path:
        """Where a JVM unpacks its native libraries; emptied by every start, as a killed JVM leaves them behind."""
        return self.run / "tmp"

    @property
    def archives(self) -> Path:
        """Class-data archives: a cache that makes a JVM start faster, safe to delete.

        They name the jars they were made of, so they lie with them and are shared by whoever shares those.
        """
        return self.jars / ".archives"

    @property
    def state_file(self) -> Path:
        """The state of the live run as JSON; absent when nothing runs."""
        return self.run / "stack.json"

    @property
    def lock_file(self) -> Path:
        """Locked by the live supervisor for as long as it lives."""
        return self.run / "stack.lock"

    def log(self, part: str) -> Path:
        """Return the log file of one part."""
        return self.logs / f"{part}.log"

    def create(self) -> None:
        """Make the folders. Only the user may read them: they hold a development key and message data."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.data, self.logs, self.run, self.scratch):
            folder.mkdir(mode=0o700, exist_ok=True)
        self.archives.mkdir(parents=True, exist_ok=True)
