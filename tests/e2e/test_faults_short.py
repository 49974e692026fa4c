"""The fault harness in short: a fixed seed on a stack of its own. The long form is `make faults`."""

from pathlib import Path
from typing import Final

import pytest

from tests.faults.run import RunOptions, run
from tests.faults.schedule import ScheduleSettings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

SEED: Final = 7
TURNS: Final = 60
SCHEDULE: Final = ScheduleSettings(process_faults_per_turn=0.165, server_faults_per_turn=0.034)


def test_the_promises_hold_under_faults(tmp_path: Path) -> None:
    report = run(RunOptions(TURNS, SEED, tmp_path / "faults", schedule=SCHEDULE))
    assert [f"{one.check} {one.turn_id} {one.detail}" for one in report.violations] == []
    assert (report.process_faults, report.server_faults) == (10, 2)
    assert sum(report.turns.values()) >= TURNS
    assert report.clients["answered"] == report.clients["readers"]
