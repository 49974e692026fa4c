"""The supervisor on tiny processes: order, restarts, failures, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from turnstream.local_stack import state
from turnstream.local_stack.child import kill_group
from turnstream.local_stack.errors import PartFailedError
from turnstream.local_stack.layout import Layout
from turnstream.local_stack.parts import OneShot, Part, PartState, Probe, Stage
from turnstream.local_stack.plan import RunPlan
from turnstream.local_stack.readiness import NotReadyError
from turnstream.local_stack.restart import RestartPolicy
from turnstream.local_stack.state import RunRecord, RunState
from turnstream.local_stack.supervisor import Supervisor

FAST = RestartPolicy(delay_s_first=0.01, delay_s_max=0.01, restarts_per_window_max=2, failed_retry_s=0.01)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "home", tmp_path / "jars")
    layout.create()
    return layout


def _exists(file: Path) -> Probe:
    async def probe() -> None:
        if not file.exists():  # noqa: ASYNC240 - one stat of a test's own file
            message = f"no {file.name}"
            raise NotReadyError(message)

    return probe


def _part(layout: Layout, name: str, code: str, *, ready_s_max: float = 10.0, stop_s_max: float = 5.0) -> Part:
    """Return a part that is ready as soon as its code wrote its pid to `<home>/<name>`."""
    mark = layout.home / name
    program = f"import os, pathlib, signal, sys, time; mark = pathlib.Path({str(mark)!r})\n{READY}\n{code}"
    argv = (sys.executable, "-S", "-c", program)
    return Part(name, argv, _exists(mark), port=1, ready_s_max=ready_s_max, stop_s_max=stop_s_max)


# The mark appears with its content: the test reads it as soon as it exists.
READY = "ready = lambda text: (mark.with_suffix('.part').write_text(text), mark.with_suffix('.part').rename(mark))"
SERVE = "ready(str(os.getpid())); signal.pause()"


@asynccontextmanager
async def _running(layout: Layout, *stages: Stage) -> AsyncIterator[tuple[Supervisor, list[RunRecord]]]:
    """Run the stages until the block ends; the block starts when all of them are ready."""
    records: list[RunRecord] = []
    plan = RunPlan(stages, {}, {"SHARED": "yes"}, ())
    supervisor = Supervisor(plan, layout, "test-run", records.append, FAST)
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.run(lambda _: ready.set()))
        await ready.wait()
        yield supervisor, records
        supervisor.stop()


async def _until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not reached():  # noqa: ASYNC110 - what it waits for is in other processes
            await asyncio.sleep(0.01)


def _seen(records: list[RunRecord], name: str) -> list[PartState]:
    states = [part.state for record in records for part in record.parts if part.name == name]
    return [now for before, now in zip([None, *states], states, strict=False) if now is not before]


async def test_stages_start_in_order_and_stop_in_reverse(layout: Layout) -> None:
    shot = OneShot(
        "prepare", (sys.executable, "-S", "-c", "import os; print('log'); print('key=' + os.environ['SHARED'])")
    )
    stages = (Stage((_part(layout, "a", SERVE),)), Stage((_part(layout, "b", SERVE),), before=(shot,)))
    async with _running(layout, *stages) as (supervisor, records):
        assert supervisor.record.state is RunState.READY
        assert supervisor.record.key == "yes"
        await _until(lambda: state.read(layout.state_file) == supervisor.record)
        pids = [int((layout.home / name).read_text()) for name in "ab"]
        assert pids == [part.pid for part in supervisor.record.parts]
    started = [(part.name) for record in records for part in record.parts if part.state is PartState.READY]
    assert started[0] == "a"
    stopped = [{part.name for part in record.parts if part.state is PartState.STOPPED} for record in records]
    assert stopped.index({"b"}) < stopped.index({"a", "b"})
    assert [state.process_created(pid) for pid in pids] == [None, None]
    assert not layout.state_file.exists()


async def test_a_crashed_part_is_started_again(layout: Layout) -> None:
    async with _running(layout, Stage((_part(layout, "a", SERVE),))) as (supervisor, records):
        first = supervisor.record.parts[0].pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await _until(lambda: supervisor.record.parts[0].restarts == 1 and supervisor.record.all_ready)
        assert supervisor.record.parts[0].pid != first
    assert PartState.BACKOFF in _seen(records, "a")
    reasons = {part.detail for record in records for part in record.parts}
    assert "ended with signal 9" in reasons


async def test_too_many_crashes_are_called_a_failure_and_tried_on(layout: Layout) -> None:
    once = "start = not mark.exists(); ready('x'); start and time.sleep(0.3)"
    async with _running(layout, Stage((_part(layout, "a", once),))) as (_, records):
        await _until(lambda: PartState.FAILED in _seen(records, "a"))
        await _until(lambda: records[-1].parts[0].restarts > FAST.restarts_per_window_max + 1)


async def test_a_part_that_ends_while_starting_fails_the_run_with_its_log(layout: Layout) -> None:
    stage = Stage((_part(layout, "good", SERVE), _part(layout, "bad", "print('no such disk'); sys.exit(7)")))
    with pytest.raises(ExceptionGroup) as raised:
        async with _running(layout, stage):
            pytest.fail("became ready")
    failure = _failure(raised.value)
    assert failure.message == "bad: ended with exit code 7"
    assert failure.log_lines == ("no such disk",)
    assert not layout.state_file.exists()


async def test_a_part_that_misses_its_deadline_fails_the_run(layout: Layout) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with _running(layout, Stage((_part(layout, "slow", "signal.pause()", ready_s_max=0.3),))):
            pytest.fail("became ready")
    assert _failure(raised.value).message == "slow: not ready within 0 s"


async def test_a_one_shot_that_fails_or_hangs_fails_the_run(layout: Layout) -> None:
    for code, message in (
        ("import sys; sys.exit('broken')", "shot: ended with exit code 1"),
        ("import signal; signal.pause()", "shot: not done within 0 s"),
    ):
        shot = OneShot("shot", (sys.executable, "-S", "-c", code), finish_s_max=0.4)
        with pytest.raises(ExceptionGroup) as raised:
            async with _running(layout, Stage((), before=(shot,))):
                pytest.fail("became ready")
        assert _failure(raised.value).message == message


async def test_a_stubborn_part_and_its_children_are_killed(layout: Layout) -> None:
    code = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = os.fork()\n"
        "if child: ready(str(child))\n"
        "while True: signal.pause()"
    )
    async with _running(layout, Stage((_part(layout, "a", code, stop_s_max=0.2),))) as (supervisor, _):
        grandchild = int((layout.home / "a").read_text())
        pid = supervisor.record.parts[0].pid
        assert pid is not None
    await _until(lambda: state.process_created(pid) is None and state.process_created(grandchild) is None)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel has to help")
async def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import asyncio, pathlib, sys\n"
        "from turnstream.local_stack.child import spawn\n"
        "async def main():\n"
        "    code = 'import signal; signal.pause()'\n"
        f"    log = pathlib.Path({str(tmp_path / 'log')!r})\n"
        "    child = await spawn((sys.executable, '-S', '-c', code), {}, log)\n"
        "    print(child.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    child = int(await process.stdout.readline())
    assert state.process_created(child) is not None
    process.kill()
    await process.communicate()
    await _until(lambda: state.process_created(child) is None)


def test_signalling_a_group_that_is_gone_is_harmless() -> None:
    kill_group(2**22 - 3)


def _failure(group: ExceptionGroup[Exception]) -> PartFailedError:
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, PartFailedError)
    return error
