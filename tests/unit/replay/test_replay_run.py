import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from producers.replay.checkpoint import Checkpoint, RunRecord, checkpoint_path, new_run_id
from producers.replay.joins import PartitionsOf, resolve, untold
from producers.replay.pace import Pace
from producers.replay.plan import READ_RECORDS_MAX, Plan, Progress, make_plan
from producers.replay.run import Act, Summary, replay
from producers.replay.selection import Selection
from schemas import topics
from schemas.events import Decision, ModerationDecided
from schemas.models import Price
from schemas.ports import Record, TopicPartition
from schemas.serde import encode, event_headers
from tests.support import answer_records, turn_events
from tests.support.memory_log import MemoryLog

TOPIC = topics.TURNS_ADMITTED.name
PARTITIONS = [TopicPartition(TOPIC, number) for number in range(2)]


class Killed(Exception):
    pass


def log_of(turns: int) -> MemoryLog:
    log = MemoryLog(topics={TOPIC: 2, topics.TOKENS.name: 6, topics.MODERATION_DECISIONS.name: 1})
    for number in range(turns):
        turn = turn_events.turn(number, max_tokens=10)
        event = turn_events.admitted(turn)
        headers = event_headers(topics.TURNS_ADMITTED, turn.turn_id)
        log.put(TOPIC, turn.conversation_id.encode(), encode(event), headers, number % 2, timestamp_ms=1_000 + number)
    return log


def partitions_in(log: MemoryLog) -> PartitionsOf:
    return lambda topic: [TopicPartition(topic, number) for number in range(log.partitions_of(topic))]


async def begin(log: MemoryLog, path: Path, selection: Selection | None = None) -> Checkpoint:
    plan = await make_plan(log.reader(), PARTITIONS, selection or Selection(topic=TOPIC))
    return await asyncio.to_thread(Checkpoint.begin, path, RunRecord(run_id="r1", mode="test", plan=plan, started_ms=0))


async def give(log: MemoryLog, checkpoint: Checkpoint, act: Act) -> Summary:
    pace = Pace(None, lambda: 0.0)
    return await replay(log.reader(), checkpoint.run.plan, act, checkpoint=checkpoint, pace=pace)


async def test_a_plan_counts_what_is_meant_and_what_it_would_cost() -> None:
    log, seen = log_of(10), list[Progress]()
    selection = Selection(topic=TOPIC, since_ms=1_002, until_ms=1_008)
    prices = {"turnstream-fast": Price(input=1_000_000.0, output=1_000_000.0)}
    plan = await make_plan(log.reader(), PARTITIONS, selection, seen.append, prices=prices)
    assert (plan.scanned, plan.selected, plan.turns) == (8, 6, 6)
    assert (plan.first_ms, plan.last_ms) == (1_002, 1_007)
    assert [each.selected for each in plan.ranges] == [3, 3]
    assert plan.completion_tokens_max == 60
    assert (plan.cost_usd, plan.unpriced) == (plan.prompt_tokens + plan.completion_tokens_max, 0)
    assert seen[-1].done == seen[-1].total == 8
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


async def test_tokens_of_records_that_name_no_model_have_no_price() -> None:
    log = log_of(3)
    plan = await make_plan(log.reader(), PARTITIONS, Selection(topic=TOPIC), prices={})
    assert (plan.unpriced, plan.cost_usd, plan.completion_tokens_max) == (3, 0, 30)


async def test_offsets_choose_partitions_and_their_records() -> None:
    log = log_of(10)
    plan = await make_plan(log.reader(), PARTITIONS, Selection(topic=TOPIC, offsets={1: (2, 4)}))
    assert [(each.partition.partition, each.start, each.stop, each.selected) for each in plan.ranges] == [(1, 2, 4, 2)]
    with pytest.raises(ValueError, match="no partition 9"):
        await make_plan(log.reader(), PARTITIONS, Selection(topic=TOPIC, offsets={9: (0, 1)}))


async def test_what_retention_took_is_not_read() -> None:
    log = log_of(10)
    log.expire(PARTITIONS[0], 3)
    plan = await make_plan(log.reader(), PARTITIONS, Selection(topic=TOPIC))
    assert [(each.start, each.stop) for each in plan.ranges] == [(3, 5), (0, 5)]


async def test_records_come_in_order_in_batches_and_only_those_meant(tmp_path: Path) -> None:
    turns = 2 * READ_RECORDS_MAX + 300
    log, given = log_of(turns), list[Record]()

    async def act(records: Sequence[Record]) -> None:
        await asyncio.sleep(0)
        given.extend(records)

    checkpoint = await begin(log, tmp_path / "r1.json", Selection(topic=TOPIC, where="record.offset != 3"))
    summary = await give(log, checkpoint, act)
    assert summary.records == len(given) == turns - 2
    for number in range(2):
        offsets = [record.offset for record in given if record.partition == number]
        assert offsets == [offset for offset in range(turns // 2) if offset != 3]
    assert (await asyncio.to_thread(Checkpoint.load, tmp_path / "r1.json")).done


async def test_a_run_that_was_cut_off_goes_on_where_it_was(tmp_path: Path) -> None:
    log, given = log_of(3_000), list[Record]()

    async def act(records: Sequence[Record]) -> None:
        await asyncio.sleep(0)
        if len(given) >= 1_200:
            raise Killed
        given.extend(records)

    with pytest.raises(Killed):
        await give(log, await begin(log, tmp_path / "r1.json"), act)
    before = len(given)
    # What comes onto the log later is not of this run.
    log.put(TOPIC, b"later", b"{}", (), 0)
    again = list[Record]()

    async def go_on(records: Sequence[Record]) -> None:
        await asyncio.sleep(0)
        again.extend(records)

    summary = await give(log, await asyncio.to_thread(Checkpoint.load, tmp_path / "r1.json"), go_on)
    assert (summary.before, summary.records) == (before, 3_000 - before)
    offsets = [(record.partition, record.offset) for record in (*given, *again)]
    assert offsets == sorted({(number, offset) for number in range(2) for offset in range(1_500)})


def test_an_unknown_run_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no run r9 in {tmp_path}"):
        Checkpoint.load(checkpoint_path(tmp_path, "r9"))
    for wrong in ("", "../x", "R"):
        with pytest.raises(ValueError, match="run id"):
            checkpoint_path(tmp_path, wrong)
    assert checkpoint_path(tmp_path, new_run_id("shadow", 1_000, b"\xab")).name == "shadow-1-ab.json"


async def test_a_capped_run_keeps_its_rate() -> None:
    clock_s, waits = [0.0], list[float]()

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0)
        waits.append(seconds)
        clock_s[0] += seconds

    pace = Pace(100.0, lambda: clock_s[0], sleep)
    assert pace.batch_max(500) == 25
    for _ in range(40):
        await pace.take(25)
    assert clock_s[0] == pytest.approx(39 * 0.25)
    assert Pace(None, lambda: 0.0).batch_max(500) == 500
    assert Pace(1.0, lambda: 0.0).batch_max(500) == 1


def test_which_conditions_a_topic_does_not_answer() -> None:
    assert untold(Selection(topic=topics.TOKENS.name, conversation="c", code="stop")) == ("conversation",)
    assert untold(Selection(topic=TOPIC, conversation="c", code="stop")) == ("code",)
    assert untold(Selection(topic=topics.TURNS_SUBMITTED.name, user="u", turn="t")) == ("user",)


async def test_turns_are_looked_up_where_their_records_do_not_tell() -> None:
    log = log_of(4)
    blocked = turn_events.turn_id(2)
    verdict = ModerationDecided(
        turn_id=blocked,
        conversation_id="c",
        tenant_id="acme",
        user_id="ann",
        decision=Decision.BLOCKED_INPUT,
        policy_version="1",
        decided_at_ms=0,
    )
    log.put(topics.MODERATION_DECISIONS.name, blocked.encode(), encode(verdict), ())
    reader, partitions_of = log.reader(), partitions_in(log)
    wanted = await resolve(reader, partitions_of, Selection(topic=TOPIC, code="blocked_input"))
    assert wanted.turns == frozenset({blocked})
    assert (await make_plan(reader, PARTITIONS, wanted)).selected == 1
    for event in answer_records.answer(1, "a", "b", conversation="c1"):
        log.put(topics.TOKENS.name, answer_records.turn_id_of(1).encode(), encode(event), (), 3)
    tokens = await resolve(reader, partitions_of, Selection(topic=topics.TOKENS.name, conversation="c1"))
    plan = await make_plan(reader, partitions_of(topics.TOKENS.name), tokens)
    assert (plan.selected, plan.turns) == (5, 1)
