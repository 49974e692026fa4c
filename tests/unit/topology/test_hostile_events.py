"""Events whose fields hold anything that JSON can carry: no processor crashes, none asks a store about nonsense."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ids, serde
from schemas.errors import Malformed
from schemas.ports import Received
from tests.support.processor_world import SAMPLES, ProcessorWorld, Sample
from tests.support.turn_events import received

EVERY: Final = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.row.name)
WITH_TURN: Final = pytest.mark.parametrize(
    "sample", [sample for sample in SAMPLES if hasattr(sample.passing(1), "turn")], ids=lambda sample: sample.row.name
)
# Longer than the keys of Cassandra may be.
HUGE: Final = "k" * 70_000
TEXTS: Final = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["", "\x00", "\x00}{", HUGE, "conv_" + "z" * 26, "z" * 26, "\u202e\ufeff", "\U0001f600" * 500]),
)
NUMBERS: Final = st.one_of(st.integers(), st.sampled_from([0, -1, 2**63, 10**400, 1.5, 1e308]))
VALUES: Final = st.one_of(TEXTS, NUMBERS, st.booleans(), st.none(), st.just([]), st.just({}))


def leaves(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where the event has values that are no objects or arrays."""
    if isinstance(value, dict):
        return [leaf for name, inner in value.items() for leaf in leaves(inner, (*path, name))]
    if isinstance(value, list):
        return [leaf for index, inner in enumerate(value) for leaf in leaves(inner, (*path, index))]
    return [path]


def written(sample: Sample, number: int = 1) -> Any:
    return json.loads(serde.encode(sample.passing(number)))


def changed(sample: Sample, changes: Mapping[tuple[str | int, ...], object]) -> bytes:
    """The record value of a passing event, with other values at some places."""
    event = written(sample)
    for path, value in changes.items():
        inner = event
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
    return json.dumps(event).encode()


def read(sample: Sample, values: Sequence[bytes]) -> list[Received[Any]]:
    """What of these records gets as far as the process."""
    batch = []
    for offset, value in enumerate(values):
        try:
            batch.append(received(serde.decode(sample.row.source, value), sample.row.source, offset))
        except Malformed:
            continue
    return batch


@EVERY
@given(data=st.data())
def test_a_batch_survives_every_content(sample: Sample, data: st.DataObject) -> None:
    places = st.dictionaries(st.sampled_from(leaves(written(sample))), VALUES, max_size=4)
    hostile = [changed(sample, changes) for changes in data.draw(st.lists(places, min_size=1, max_size=3))]
    batch = read(sample, [*hostile, serde.encode(sample.passing(2))])
    outcomes = asyncio.run(ProcessorWorld().processes()[sample.row](batch))
    assert len(outcomes) == len(batch)
    assert not isinstance(outcomes[-1], Malformed)
    # What goes on is readable for the next stage.
    for outcome in outcomes:
        for emit in () if isinstance(outcome, Malformed) else outcome:
            serde.decode(emit.topic, serde.encode(emit.event))


@EVERY
def test_a_lone_surrogate_never_gets_as_far_as_a_processor(sample: Sample) -> None:
    for path in leaves(written(sample)):
        assert read(sample, [changed(sample, {path: "\ud800"})]) == []


@WITH_TURN
@pytest.mark.parametrize(
    "changes",
    [
        {"turn_id": ""},
        {"turn_id": HUGE},
        {"turn_id": "u" * ids.TURN_ID_CHARS},
        {"conversation_id": ""},
        {"conversation_id": HUGE},
        {"conversation_id": "conv_"},
        {"submitted_at_ms": 2**63},
    ],
    ids=lambda changes: "=".join(f"{name} {str(value)[:8]}" for name, value in changes.items()),
)
async def test_a_turn_without_proper_names_is_malformed_and_leaves_no_trace(
    sample: Sample, changes: Mapping[str, object]
) -> None:
    world = ProcessorWorld()
    places: dict[tuple[str | int, ...], object] = {("turn", "stored"): True}
    places.update((("turn", name), value) for name, value in changes.items())
    (outcome,) = await world.processes()[sample.row](read(sample, [changed(sample, places)]))
    assert isinstance(outcome, Malformed)
    assert HUGE not in str(outcome)
    assert (world.active.rows, world.conversations.conversations) == (set(), {})
