"""What `up` shows while it works: a live table on a terminal, one line a change anywhere else."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from turnstream.local_stack.parts import PartState, PartStatus
from turnstream.local_stack.provision import OnBytes
from turnstream.local_stack.stack import StackObserver
from turnstream.local_stack.state import RunRecord

_STYLES: Final = {
    PartState.WAITING: "dim",
    PartState.STARTING: "yellow",
    PartState.READY: "green",
    PartState.UNREADY: "red",
    PartState.BACKOFF: "yellow",
    PartState.FAILED: "bold red",
    PartState.STOPPED: "dim",
}
_DOWNLOAD_STEPS: Final = 4


def uptime_text(status: PartStatus, now: float) -> str:
    """Return the time since a part's last start, such as `1h 02m` or `4s`; a dash while it does not run."""
    if status.pid is None or status.since is None:
        return "-"
    minutes, seconds = divmod(max(0, round(now - status.since)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {seconds:02d}s" if minutes else f"{seconds}s"


def status_table(record: RunRecord, now: float) -> Table:
    """Return the table of `turnstream status`, a row a part; `now` is the wall clock in seconds."""
    table = Table(box=None, pad_edge=False)
    for heading in ("part", "pid", "port", "state", "restarts", "uptime", ""):
        table.add_column(heading, justify="right" if heading in {"pid", "port", "restarts"} else "left")
    for part in record.parts:
        pid = "-" if part.pid is None else str(part.pid)
        state = f"[{_STYLES[part.state]}]{part.state}[/]"
        table.add_row(part.name, pid, str(part.port), state, str(part.restarts), uptime_text(part, now), part.detail)
    return table


class StartDisplay:
    """Shows a start; `observer` is what the stack reports to. Leaving it leaves the last table on the screen."""

    def __init__(self, console: Console) -> None:
        """Show nothing yet."""
        self._console = console
        self._live: Live | None = None
        self._progress: Progress | None = None
        self._shown: dict[str, PartState] = {}
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._live_table = console.is_terminal

    def __enter__(self) -> Self:
        """Begin to show what is reported."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop redrawing: what changes from now on is said in lines, below whatever was printed since."""
        self._end_download()
        with self._lock:
            self._live_table = False
            if self._live is not None:
                self._live.stop()

    @property
    def observer(self) -> StackObserver:
        """The callbacks for `Stack`."""
        return StackObserver(on_record=self.on_record, on_download=self.on_download)

    def on_record(self, record: RunRecord) -> None:
        """Show the run as it is now."""
        self._end_download()
        changed = [part for part in record.parts if part.state is not self._shown.get(part.name, PartState.WAITING)]
        self._shown |= {part.name: part.state for part in changed}
        with self._lock:
            if self._live_table:
                self._draw(record)
            else:
                for part in changed:
                    self._say(part)

    def _draw(self, record: RunRecord) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(status_table(record, time.time()), refresh=True)

    def _say(self, part: PartStatus) -> None:
        after_s = time.monotonic() - self._began
        # A part that starts again still carries the reason of its end, which was said already.
        detail = f": {part.detail}" if part.detail and part.state is not PartState.STARTING else ""
        self._console.print(f"{after_s:6.1f} s  {part.name} {part.state} on port {part.port}{detail}", soft_wrap=True)

    def on_download(self, total_bytes: int) -> OnBytes:
        """Show a download of `total_bytes`, and return what to call with the bytes that arrive."""
        if not self._console.is_terminal:
            return self._download_lines(total_bytes)
        columns = (TextColumn("downloading jars"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._progress = Progress(*columns, console=self._console, transient=True)
        task = self._progress.add_task("jars", total=total_bytes)
        self._progress.start()
        progress = self._progress
        return lambda arrived: progress.advance(task, arrived)

    def _download_lines(self, total_bytes: int) -> OnBytes:
        self._console.print(f"downloading {total_bytes / 1e6:.0f} MB of jars (once)", soft_wrap=True)
        received = said = 0

        def on_bytes(arrived: int) -> None:
            nonlocal received, said
            with self._lock:
                received += arrived
                step = received * _DOWNLOAD_STEPS // total_bytes
                if step > said:
                    said = step
                    self._console.print(f"{100 * step // _DOWNLOAD_STEPS:3d} % of the jars are here", soft_wrap=True)

        return on_bytes

    def _end_download(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
