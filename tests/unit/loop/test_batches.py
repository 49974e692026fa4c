import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from consumers.loop import run_batches
from consumers.retry import RetryPolicy
from schemas import headers, ids, serde
from schemas.errors import Fatal, Malformed, Retryable
from schemas.events import TurnCancelled
from schemas.headers import header
from schemas.ports import Emit, Outcome, Received, TopicPartition
from schemas.tokens import Failed
from schemas.topics import MAX_RECORD_BYTES, TOKENS
from tests.unit.loop.conftest import GROUP, SINK, SOURCE, TRACEPARENT, Bench, turn_ids

DEAD = "turnstream_dead_letters_total:test"
RETRIES = "turnstream_record_retries_total:test"


def passed_on(received: Received[Any], **changes: Any) -> list[Emit]:
    event = received.event.model_copy(update=changes)
    return [Emit(SINK, (received.record.key or b"").decode(), event, event.turn_id)]


class Stage:
    """Passes events on; raises what ``plan`` holds, one per call, before it does."""

    def __init__(self, *plan: Exception) -> None:
        self.plan = list(plan)
        self.batches: list[list[str]] = []

    async def __call__(self, batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        self.batches.append(turn_ids(batch))
        await asyncio.sleep(0)
        if self.plan:
            raise self.plan.pop(0)
        return [passed_on(received) for received in batch]


def written(bench: Bench) -> list[str]:
    return [TurnCancelled.model_validate_json(record.value).turn_id for record in bench.log.records(SINK.name)]


async def test_every_event_goes_through_and_is_committed(bench: Bench) -> None:
    sent = [bench.put(f"key{number}") for number in range(50)]
    await bench.run(
        run_batches(bench.batch_work(Stage(), batch_records_max=7), bench.stop), lambda: bench.committed() == 50
    )
    assert sorted(written(bench)) == sorted(sent)
    assert bench.metrics.counts["turnstream_records_total:test:processed"] == 50
    assert bench.metrics.gauges["turnstream_assigned_partitions"] == 4


async def test_order_is_kept_per_key(bench: Bench) -> None:
    sent = [bench.put("same") for _ in range(30)]
    stage = Stage()
    await bench.run(
        run_batches(bench.batch_work(stage, batch_records_max=4), bench.stop), lambda: bench.committed() == 30
    )
    assert [turn for batch in stage.batches for turn in batch] == sent
    assert max(map(len, stage.batches)) == 4


async def test_trace_and_turn_are_passed_on(bench: Bench) -> None:
    turn_id = bench.put("k")
    await bench.run(run_batches(bench.batch_work(Stage()), bench.stop), lambda: bench.committed() == 1)
    (record,) = bench.log.records(SINK.name)
    assert dict(record.headers) == {
        headers.SCHEMA: SINK.name.encode(),
        headers.TURN: turn_id.encode(),
        headers.TRACEPARENT: TRACEPARENT.encode(),
    }


async def test_a_replayed_record_is_passed_over_even_if_it_is_poison(bench: Bench) -> None:
    good = bench.put("k")
    replay = ((headers.REPLAY, b"run-1"),)
    bench.log.put(SOURCE.name, b"k", serde.encode(TurnCancelled(turn_id=good, reason="client")), replay)
    bench.log.put(SOURCE.name, b"k", b"{not json", replay)
    await bench.run(run_batches(bench.batch_work(Stage()), bench.stop), lambda: bench.committed() == 3)
    assert written(bench) == [good]
    assert bench.log.records(SOURCE.dlq) == []
    assert bench.metrics.counts["turnstream_records_total:test:replayed"] == 2


async def test_a_retryable_gives_the_same_batch_again_while_paused(bench: Bench) -> None:
    sent = [bench.put("a"), bench.put("b")]
    stage = Stage(Retryable("down"), Retryable("down"))
    paused: list[int] = []
    work = bench.batch_work(stage)
    poll = bench.consumer.poll

    async def watching(records_max: int, wait_s: float) -> Any:
        paused.append(len(bench.consumer.paused))
        return await poll(records_max, wait_s)

    bench.consumer.poll = watching  # type: ignore[method-assign]
    await bench.run(run_batches(work, bench.stop), lambda: bench.committed() == 2)
    assert stage.batches[0] == stage.batches[1] == stage.batches[2]
    assert sorted(stage.batches[0]) == sorted(sent)
    assert paused[:3] == [0, 4, 4]
    assert not bench.consumer.paused
    assert bench.metrics.counts[RETRIES] == 2


@pytest.mark.parametrize("landing", [False, True])
async def test_an_unknown_append_is_done_again_and_nothing_is_lost(bench: Bench, *, landing: bool) -> None:
    sent = [bench.put("a"), bench.put("b")]
    bench.log.fail_next_append(landing=landing)
    await bench.run(run_batches(bench.batch_work(Stage()), bench.stop), lambda: bench.committed() == 2)
    assert sorted(written(bench)) == sorted(sent * (1 + landing))


async def test_retries_are_bounded_and_end_the_process(bench: Bench) -> None:
    bench.put("a")
    policy = RetryPolicy(attempts_max=3, first_delay_s=0.001)
    with pytest.raises(Fatal, match="3 tries"):
        await run_batches(bench.batch_work(Stage(*[Retryable("down")] * 9), retry=policy), bench.stop)
    assert bench.committed() == 0


async def test_a_stop_during_backoff_leaves_the_batch_to_the_next_member(bench: Bench) -> None:
    bench.put("a")
    stage = Stage(*[Retryable("down")] * 1_000)
    await bench.run(run_batches(bench.batch_work(stage), bench.stop), lambda: len(stage.batches) > 2)
    assert bench.committed() == 0


async def test_what_cannot_be_decoded_is_buried_and_its_turn_failed(bench: Bench) -> None:
    good = bench.put("a")
    turn_id = ids.new_turn_id(1, 2, b"entropy!")
    bench.log.put(SOURCE.name, b"a", b"{not json", serde.event_headers(SOURCE, turn_id))
    await bench.run(run_batches(bench.batch_work(Stage()), bench.stop), lambda: bench.committed() == 2)
    assert written(bench) == [good]
    (letter,) = bench.log.records(SOURCE.dlq)
    assert letter.value == b"{not json"
    (terminal,) = bench.log.records(TOKENS.name)
    assert (terminal.partition, terminal.key) == (2, turn_id.encode())
    assert isinstance(serde.decode_token(terminal.value), Failed)
    assert bench.metrics.counts[DEAD] == 1


async def test_a_poison_outcome_is_buried_alone(bench: Bench) -> None:
    bad, good = bench.put("a"), bench.put("a")

    async def process(batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        return [Malformed("no") if one.event.turn_id == bad else passed_on(one) for one in batch]

    await bench.run(run_batches(bench.batch_work(process), bench.stop), lambda: bench.committed() == 2)
    assert written(bench) == [good]
    assert [header(one.headers, headers.TURN) for one in bench.log.records(SOURCE.dlq)] == [bad]


async def test_a_record_on_which_the_process_crashes_is_found_and_buried(bench: Bench) -> None:
    turns = [bench.put("a") for _ in range(5)]

    async def process(batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        if any(one.event.turn_id == turns[2] for one in batch):
            raise KeyError("what the user wrote")
        return [passed_on(one) for one in batch]

    await bench.run(run_batches(bench.batch_work(process), bench.stop), lambda: bench.committed() == 5)
    assert written(bench) == turns[:2] + turns[3:]
    (letter,) = bench.log.records(SOURCE.dlq)
    assert header(letter.headers, headers.DLQ_ERROR) == "Malformed: crashed: KeyError"


async def test_one_emit_that_is_too_large_does_not_stop_the_others(bench: Bench) -> None:
    bad, good = bench.put("a"), bench.put("a")

    async def process(batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        return [
            passed_on(one, reason="x" * MAX_RECORD_BYTES if one.event.turn_id == bad else "client") for one in batch
        ]

    await bench.run(run_batches(bench.batch_work(process), bench.stop), lambda: bench.committed() == 2)
    assert written(bench) == [good]
    assert [header(one.headers, headers.TURN) for one in bench.log.records(SOURCE.dlq)] == [bad]


async def test_a_turn_in_a_partition_that_never_was_still_gets_its_dead_letter(bench: Bench) -> None:
    turn_id = ids.new_turn_id(1, 60_000, b"entropy!")
    bench.log.put(SOURCE.name, b"a", b"{", serde.event_headers(SOURCE, turn_id))
    await bench.run(run_batches(bench.batch_work(Stage()), bench.stop), lambda: bench.committed() == 1)
    assert len(bench.log.records(SOURCE.dlq)) == 1
    assert bench.log.records(TOKENS.name) == []


async def test_a_failed_commit_is_made_up_for_without_new_records(bench: Bench) -> None:
    bench.put("a")
    bench.log.fail_next_commit()
    stage = Stage()
    await bench.run(run_batches(bench.batch_work(stage), bench.stop), lambda: bench.committed() == 1)
    assert len(stage.batches) == 1


async def test_records_of_a_lost_partition_are_left_to_their_new_owner(bench: Bench) -> None:
    for partition in range(4):
        bench.put("k", partition=partition)
    stage = Stage(Retryable("down"))
    other = bench.log.consumer(GROUP, [SOURCE.name])

    class Joining(Stage):
        async def __call__(self, batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
            if not stage.batches:
                bench.log.group(GROUP).join(other)
            return await stage(batch)

    await bench.run(run_batches(bench.batch_work(Joining()), bench.stop), lambda: bench.committed() == 2)
    assert list(map(len, stage.batches)) == [4, 2]
    mine = bench.consumer.assignment()
    assert set(bench.log.committed(GROUP)) == mine
    assert {record.source for record in await other.poll(10, 0)} == other.assignment()


async def test_what_a_rebalance_delivers_during_backoff_is_not_lost(bench: Bench) -> None:
    other = bench.log.consumer(GROUP, [SOURCE.name])
    bench.log.group(GROUP).join(other)
    mine = next(iter(bench.consumer.assignment()))
    theirs = next(iter(other.assignment()))
    bench.put("k", partition=mine.partition)
    late = bench.put("k", partition=theirs.partition)
    stage = Stage(Retryable("down"), Retryable("down"))

    class Leaving(Stage):
        async def __call__(self, batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
            if len(stage.batches) == 1:
                bench.log.group(GROUP).leave(other)
            return await stage(batch)

    await bench.run(run_batches(bench.batch_work(Leaving()), bench.stop), lambda: bench.committed() == 2)
    assert late in written(bench)


async def test_progress_is_told_while_idle(bench: Bench) -> None:
    gauge = "turnstream_loop_progress_timestamp_seconds"
    seen: set[float] = set()

    def moved() -> bool:
        seen.add(bench.metrics.gauges.get(gauge, 0))
        return len(seen) > 3

    await bench.run(run_batches(bench.batch_work(Stage()), bench.stop), moved)
    assert TopicPartition(SOURCE.name, 0) in bench.consumer.assignment()
