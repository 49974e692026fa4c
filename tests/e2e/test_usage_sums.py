"""kill -9 of the usage sink and of inference under load: files, log and clients add up to the same usage.

The long form is `make usage-faults TURNS=1000`.
"""

import json
from typing import Final

import pytest

from tests.faults.usage_sums import Load, compare
from tests.support.full_stack import FullStack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

TURNS: Final = 200
KILL_EVERY: Final = 100


async def test_the_files_the_log_and_the_clients_add_up_to_the_same(turnstream: FullStack) -> None:
    load = Load(turnstream, TURNS, KILL_EVERY, users=("payer-a", "payer-b", "payer-c"))
    outcome = await compare(load)
    assert outcome.kills == {"usage-sink": 2, "inference": 2}
    assert outcome.clients.turns == TURNS
    assert outcome.clients.cost > 0
    assert (outcome.files, outcome.log) == (outcome.clients, outcome.clients)
    assert outcome.rows_twice_in_files == 0
    told = turnstream.command("usage", "cost", "--by", "user", "--format", "json")
    assert told.returncode == 0, told.stderr
    ours = [row for row in json.loads(told.stdout) if row["user_id"].startswith("payer-")]
    assert sum(row["cost_nano_usd"] for row in ours) == outcome.clients.cost
