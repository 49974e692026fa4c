"""The local stack as a context manager, for the command line, tests, benches and the demonstration."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Final, Self

from turnstream.exception_groups import leaves
from turnstream.local_stack import state
from turnstream.local_stack.errors import AlreadyRunningError, StackError
from turnstream.local_stack.leftovers import end_leftovers
from turnstream.local_stack.parts import PartStatus
from turnstream.local_stack.plan import RunPlan, StackOptions, plan_run
from turnstream.local_stack.ports import LOOPBACK, PortReservations
from turnstream.local_stack.provision import OnBytes, download, missing
from turnstream.local_stack.restart import RestartPolicy
from turnstream.local_stack.settings import StackSettings
from turnstream.local_stack.state import RunRecord
from turnstream.local_stack.supervisor import Supervisor

STOP_S_MAX: Final = 60.0


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the servers of a run listen; None for what does not run. `key` is the development API key."""

    kafka: str | None
    cassandra: tuple[str, int] | None
    redis_url: str | None
    triton_grpc: str | None
    triton_http: str | None
    base_url: str | None
    key: str | None

    @classmethod
    def of(cls, record: RunRecord) -> Self:
        """Read the endpoints of a run from its record."""
        ports = record.ports
        cassandra, redis = ports.get("cassandra"), ports.get("redis")
        return cls(
            kafka=_address(ports, "kafka"),
            cassandra=(LOOPBACK, cassandra) if cassandra else None,
            redis_url=f"redis://{LOOPBACK}:{redis}/0" if redis else None,
            triton_grpc=_address(ports, "triton"),
            triton_http=_address(ports, "triton-http"),
            base_url=record.base_url,
            key=record.key,
        )


def _address(ports: Mapping[str, int], name: str) -> str | None:
    return f"{LOOPBACK}:{ports[name]}" if name in ports else None


@dataclass(frozen=True, slots=True)
class StackObserver:
    """What a front end may want to hear. Called from the stack's own thread, except the download; must not block."""

    on_record: Callable[[RunRecord], None] = lambda _: None
    on_download: Callable[[int], OnBytes] = lambda _total_bytes: lambda _bytes: None


def provision(settings: StackSettings, options: StackOptions, observer: StackObserver) -> None:
    """Download the jars that these options need and that are not here yet. Raises `ProvisioningError`."""
    folder = settings.layout().jars
    wanted = missing(options.jars, folder)
    if wanted:
        on_bytes = observer.on_download(sum(jar.size_bytes for jar in wanted))
        download(wanted, folder, settings.maven_url, on_bytes)


class Stack:
    """A supervised run of the local stack in this process: `with Stack() as stack: ...`.

    Entering downloads what is missing, starts everything and returns when every part has proven that it serves.
    Leaving ends every child; so does the death of this process (Linux), however it dies.
    """

    def __init__(
        self,
        settings: StackSettings | None = None,
        options: StackOptions | None = None,
        observer: StackObserver | None = None,
        policy: RestartPolicy | None = None,
    ) -> None:
        """Start nothing yet. Settings left out come from the environment; options left out mean everything."""
        self.settings = settings or StackSettings()
        self.options = options or StackOptions()
        self.layout = self.settings.layout()
        self._observer = observer or StackObserver()
        self._policy = policy
        self._ready: Future[RunRecord] = Future()
        self._reservations = PortReservations()
        self._lock: IO[str] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._supervisor: Supervisor | None = None
        self._stop_asked = threading.Event()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start; see `start`."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; see `stop`."""
        self.stop()

    def start(self) -> RunRecord:
        """Start everything and return when it serves.

        Raises `AlreadyRunningError` when a live run has this home, `ProvisioningError`, `PortTakenError` or
        `PartFailedError`; nothing is left running then.
        """
        self.layout.create()
        try:
            self._take_home()
            provision(self.settings, self.options, self._observer)
            run_id = uuid.uuid4().hex
            plan = plan_run(self.settings, self.options, os.environ, self._reservations)
            self._thread = threading.Thread(target=self._run, args=(plan, run_id), name="turnstream-stack", daemon=True)
            self._thread.start()
            return self._ready.result()
        except BaseException:
            self.stop()
            raise

    def ask_to_stop(self) -> None:
        """Begin to stop and return at once; callable from any thread and from a signal handler."""
        self._stop_asked.set()
        if self._loop is not None and self._supervisor is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the run has ended by itself
                self._loop.call_soon_threadsafe(self._supervisor.stop)

    def stop(self) -> None:
        """End every child and return when all are gone. Calling it twice, or before `start`, is harmless."""
        self.ask_to_stop()
        if self._thread is not None:
            self._thread.join(STOP_S_MAX)
        self._reservations.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def wait(self) -> None:
        """Return when the run has ended because it was asked to. Raises whatever else ended it."""
        if self._thread is not None:
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    @property
    def is_supervising(self) -> bool:
        """True from the moment on at which `ask_to_stop` is enough to end it."""
        return self._thread is not None

    @property
    def record(self) -> RunRecord:
        """The present state of the run. Raises `StackError` before it is ready for the first time."""
        if self._supervisor is None or not self._ready.done():
            message = "the stack is not started"
            raise StackError(message)
        return self._supervisor.record

    @property
    def endpoints(self) -> Endpoints:
        """Where the servers listen."""
        return Endpoints.of(self.record)

    def environment(self) -> dict[str, str]:
        """Return the `TURNSTREAM_*` variables that point a process of ours at these servers."""
        return dict(self.record.environment)

    def part(self, name: str) -> PartStatus:
        """Return the present status of one part, with its pid. Raises `KeyError` when there is no such part."""
        return {part.name: part for part in self.record.parts}[name]

    def _take_home(self) -> None:
        lock = self.layout.lock_file.open("a+", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            record = state.read(self.layout.state_file)
            message = f"already running (pid {record.pid})" if record else "already starting"
            raise AlreadyRunningError(message) from error
        self._lock = lock
        record = state.read(self.layout.state_file)
        if record is not None:
            end_leftovers(record)
            self.layout.state_file.unlink()
        shutil.rmtree(self.layout.scratch)
        self.layout.scratch.mkdir(mode=0o700)

    def _run(self, plan: RunPlan, run_id: str) -> None:
        try:
            asyncio.run(self._supervise(plan, run_id))
        except BaseExceptionGroup as group:
            self._fail(next((error for error in leaves(group) if isinstance(error, StackError)), group))
        except BaseException as error:  # noqa: BLE001 - the starting thread re-raises it
            self._fail(error)

    async def _supervise(self, plan: RunPlan, run_id: str) -> None:
        self._supervisor = Supervisor(plan, self.layout, run_id, self._observer.on_record, self._policy)
        self._loop = asyncio.get_running_loop()
        if self._stop_asked.is_set():
            self._supervisor.stop()
        await self._supervisor.run(self._ready.set_result)
        if not self._ready.done():
            message = "stopped while starting"
            raise StackError(message)

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        if not self._ready.done():
            self._ready.set_exception(error)
