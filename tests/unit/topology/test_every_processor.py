"""What every processor must keep, whatever it decides."""

from collections.abc import Sequence

import pytest

from schemas.errors import Malformed, Retryable
from schemas.event import Event
from schemas.ids import turn_partition
from schemas.ports import Emit, Outcome, Received
from schemas.tokens import Refused
from schemas.topics import BY_NAME, TOKENS, Key
from stream_processors.topology import AUTH, PROMPT, RATE_LIMIT, RATE_LIMIT_SETTLE, ROWS
from tests.support.processor_world import CANARY, SAMPLES, ProcessorWorld, Sample
from tests.support.turn_events import received

EVERY = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.row.name)
REFUSING = pytest.mark.parametrize(
    "sample", [sample for sample in SAMPLES if sample.refused], ids=lambda sample: sample.row.name
)
WAITING = pytest.mark.parametrize(
    "sample", [one for one in SAMPLES if one.row in {RATE_LIMIT, RATE_LIMIT_SETTLE}], ids=lambda sample: sample.row.name
)
SAYING_NO = pytest.mark.parametrize(
    "sample", [one for one in SAMPLES if one.row in {AUTH, PROMPT}], ids=lambda sample: sample.row.name
)
NOT_A_TURN = "this is no turn id"


def batch_of(sample: Sample, events: Sequence[Event]) -> list[Received[Event]]:
    return [received(event, sample.row.source, offset) for offset, event in enumerate(events)]


async def outcomes(world: ProcessorWorld, sample: Sample, batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
    return await world.processes()[sample.row](batch)


def emits(outcome: Outcome) -> Sequence[Emit]:
    assert not isinstance(outcome, Malformed)
    return outcome


def some_of_each(sample: Sample) -> list[Event]:
    refused = [sample.refused(number) for number in (4, 5)] if sample.refused else []
    return [sample.passing(1), *refused, sample.passing(2), sample.passing(3)]


@EVERY
async def test_one_outcome_per_record_in_order(sample: Sample) -> None:
    events = some_of_each(sample)
    result = await outcomes(ProcessorWorld(), sample, batch_of(sample, events))
    assert len(result) == len(events)
    for event, outcome in zip(events, result, strict=True):
        turn = getattr(event, "turn", None)
        assert {emit.turn_id for emit in emits(outcome)} <= {turn.turn_id if turn else None}


@EVERY
async def test_an_empty_batch_has_no_outcomes(sample: Sample) -> None:
    assert list(await outcomes(ProcessorWorld(), sample, [])) == []


@EVERY
async def test_a_batch_given_again_has_the_same_outcomes(sample: Sample) -> None:
    world, batch = ProcessorWorld(), batch_of(sample, some_of_each(sample))
    first = await outcomes(world, sample, batch)
    assert await outcomes(world, sample, batch) == first


@EVERY
async def test_the_outcome_does_not_depend_on_the_batch(sample: Sample) -> None:
    batch = batch_of(sample, some_of_each(sample)[:2])
    together = await outcomes(ProcessorWorld(), sample, batch)
    world = ProcessorWorld()
    alone = [(await outcomes(world, sample, [one]))[0] for one in batch]
    assert list(together) == alone


@WAITING
async def test_a_dependency_that_is_down_is_retryable_and_the_batch_succeeds_later(sample: Sample) -> None:
    world, batch = ProcessorWorld(), batch_of(sample, some_of_each(sample))
    world.set_down(down=True)
    with pytest.raises(Retryable):
        await outcomes(world, sample, batch)
    world.set_down(down=False)
    assert list(await outcomes(world, sample, batch)) == list(await outcomes(ProcessorWorld(), sample, batch))


@SAYING_NO
async def test_a_store_that_is_down_refuses_what_needs_it_and_the_next_batch_goes_on(sample: Sample) -> None:
    world, batch = ProcessorWorld(), batch_of(sample, [sample.passing(1)])
    world.set_down(down=True)
    (outcome,) = await outcomes(world, sample, batch)
    (refused,) = [emit.event for emit in emits(outcome) if isinstance(emit.event, Refused)]
    assert not any(hasattr(emit.event, "turn") for emit in emits(outcome))
    assert (refused.refusal.status, refused.refusal.error.code) == (503, "storage_unavailable")
    assert refused.refusal.retry_after_s
    world.set_down(down=False)
    assert list(await outcomes(world, sample, batch)) == list(await outcomes(ProcessorWorld(), sample, batch))


@EVERY
async def test_emits_go_to_the_rows_sinks_with_the_key_and_partition_of_the_topic(sample: Sample) -> None:
    result = await outcomes(ProcessorWorld(), sample, batch_of(sample, some_of_each(sample)))
    for emit in (emit for outcome in result for emit in emits(outcome)):
        assert emit.topic in sample.row.sinks
        assert emit.turn_id is not None
        if emit.topic.key is Key.TURN:
            assert emit.key == emit.turn_id
        elif emit.topic.key is Key.USER:
            assert emit.key == getattr(emit.event, "user_id", None)
        else:
            turn = getattr(emit.event, "turn", None)
            assert turn is not None
            assert (emit.topic.key, emit.key) == (Key.CONVERSATION, turn.conversation_id)
        assert emit.partition == (turn_partition(emit.turn_id) if emit.topic is TOKENS else None)


@REFUSING
async def test_a_refused_turn_ends_and_goes_no_further(sample: Sample) -> None:
    assert sample.refused is not None
    world = ProcessorWorld()
    (outcome,) = await outcomes(world, sample, batch_of(sample, [sample.refused(1)]))
    refused = [emit.event for emit in emits(outcome) if isinstance(emit.event, Refused)]
    assert [event.stage for event in refused] == [sample.row.name]
    assert not any(hasattr(emit.event, "turn") for emit in emits(outcome))
    assert sum(world.metrics.counts.values()) == 1


@REFUSING
async def test_no_refusal_repeats_what_the_user_wrote(sample: Sample) -> None:
    assert sample.refused is not None
    (outcome,) = await outcomes(ProcessorWorld(), sample, batch_of(sample, [sample.refused(1)]))
    assert all(CANARY not in emit.event.model_dump_json() for emit in emits(outcome))


@REFUSING
async def test_a_poison_record_harms_only_itself(sample: Sample) -> None:
    assert sample.refused is not None
    poisoned = sample.refused(1)
    turn = poisoned.turn.model_copy(update={"turn_id": NOT_A_TURN})  # type: ignore[attr-defined]
    poison = poisoned.model_copy(update={"turn": turn})
    result = await outcomes(ProcessorWorld(), sample, batch_of(sample, [poison, sample.passing(2)]))
    assert isinstance(result[0], Malformed)
    assert CANARY not in str(result[0])
    assert len(emits(result[1])) > 0


def test_rows_are_named_once_and_read_in_a_group_that_their_topic_knows() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert all(row.group in row.source.groups for row in ROWS)


def test_rows_write_only_topics_of_the_contract() -> None:
    assert all(sink is BY_NAME[sink.name] for row in ROWS for sink in row.sinks)
