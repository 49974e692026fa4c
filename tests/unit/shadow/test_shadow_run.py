"""Shadow runs over recorded turns: the exact difference, and no effect on anything."""

from collections.abc import Sequence

import pytest

from schemas.errors import Retryable
from schemas.events import TurnSubmitted
from schemas.headers import REPLAY, header
from schemas.shadow import PREFIX, run_of
from schemas.topics import INFERENCE_REQUESTS, TURNS_ADMITTED, TURNS_PROMPTED, TURNS_SUBMITTED
from tests.support.shadow_world import RUN, ShadowWorld
from tests.support.turn_events import assistant, conversation_id, stored, submitted, turn, turn_id, user
from turnstream.shadow.changes import Reroute
from turnstream.shadow.differences import Difference, compare, summarise
from turnstream.shadow.pipeline import rows_between
from turnstream.shadow.reading import DiffSettings, find_begun, read_originals, read_shadows

TURNS = 500
BLOCKED = "turnstream-blocked-phrase"


def questions(count: int) -> list[TurnSubmitted]:
    """Every fifth is about zebras, every seventh is blocked by the rules that ship."""
    return [
        submitted(
            turn(number, stored=number % 2 == 0),
            user(f"question {number}{' zebra' * (number % 5 == 0)}{f' {BLOCKED}' * (number % 7 == 0)}"),
        )
        for number in range(count)
    ]


async def differences(world: ShadowWorld, *, answered: bool) -> list[Difference]:
    reader = world.log.reader()
    shadow = (await read_shadows(reader, RUN, lambda _done, _total: None)).facts()
    settings = DiffSettings()
    original = await read_originals(reader, world.partitions(), list(shadow), settings, lambda _done, _total: None)
    return compare(RUN, original.facts(), shadow, answered=answered)


def changed(rows: Sequence[Difference]) -> dict[str, tuple[str, ...]]:
    return {row.turn_id: row.changes for row in rows if row.changes}


async def test_five_hundred_turns_through_another_policy_differ_exactly_where_it_does() -> None:
    world = ShadowWorld()
    await world.record(questions(TURNS), answered=False)
    before, records = world.effects(), world.live_records()
    run = world.shadow(until_stage="moderation", deny=("zebra",))
    await run(world.source(TURNS_SUBMITTED))
    rows = await differences(world, answered=False)
    flipped = {turn_id(n) for n in range(TURNS) if n % 5 == 0 and n % 7}
    also = {turn_id(n) for n in range(TURNS) if n % 5 == 0 and n % 7 == 0}
    assert changed(rows) == {**dict.fromkeys(flipped, ("decision", "rules")), **dict.fromkeys(also, ("rules",))}
    summary = summarise(RUN, rows)
    assert (summary.turns, summary.compared, summary.unchanged) == (TURNS, TURNS, TURNS - TURNS // 5)
    assert summary.flips == {"allowed -> blocked_input": len(flipped)}
    assert (run.tally.turns, run.tally.unreadable, run.tally.passed_over) == (TURNS, 0, 0)
    assert (world.effects(), world.live_records()) == (before, records)


async def test_answered_turns_are_compared_to_their_end_and_nothing_else_changes() -> None:
    world = ShadowWorld()
    await world.record(questions(60))
    before, records = world.effects(), world.live_records()
    await world.shadow(deny=("zebra",))(world.source(TURNS_SUBMITTED))
    rows = await differences(world, answered=True)
    assert {row.shadow.outcome for row in rows if row.shadow} == {"finished", "refused"}
    assert all("answer" not in row.changes for row in rows)
    summary = summarise(RUN, rows)
    assert summary.original_tokens == summary.shadow_tokens > 0
    assert (world.effects(), world.live_records()) == (before, records)


async def test_a_run_until_moderation_asks_no_model_and_says_nothing_of_answers() -> None:
    world = ShadowWorld()
    await world.record(questions(20))
    await world.shadow("moderation", "moderation", deny=("zebra",))(world.source(TURNS_PROMPTED))
    rows = await differences(world, answered=False)
    assert {row.shadow.outcome for row in rows if row.shadow} == {"cleared", "refused"}
    assert {change for row in rows for change in row.changes} == {"decision", "rules"}
    assert all(row.shadow and row.shadow.answer_hash is None for row in rows)


async def test_every_record_of_a_run_is_marked_and_on_its_own_topics() -> None:
    world = ShadowWorld()
    await world.record(questions(3))
    await world.shadow()(world.source(TURNS_SUBMITTED))
    own = [one for name in world.log.topics() if name.startswith(PREFIX) for one in world.log.records(name)]
    assert own
    assert {run_of(record.topic) for record in own} == {RUN}
    assert {header(record.headers, REPLAY) for record in own} == {RUN}


async def test_a_turn_that_its_quota_refused_is_told_apart_because_a_run_has_no_quotas() -> None:
    world = ShadowWorld(plan="free")
    await world.record(questions(100), answered=False)
    await world.shadow(until_stage="moderation")(world.source(TURNS_SUBMITTED))
    rows = await differences(world, answered=False)
    refused = [row for row in rows if row.original and row.original.stage == "rate_limit"]
    assert 0 < len(refused) < len(rows)
    assert changed(rows) == dict.fromkeys((row.turn_id for row in refused), ("circumstances",))


async def test_without_a_change_nothing_differs() -> None:
    world = ShadowWorld()
    await world.record(questions(30))
    await world.shadow()(world.source(TURNS_SUBMITTED))
    assert changed(await differences(world, answered=True)) == {}


async def test_another_model_answers_whatever_was_asked_for() -> None:
    world = ShadowWorld()
    await world.record(questions(3))
    await world.shadow("moderation", route=Reroute("turnstream-capable", "capable"))(world.source(TURNS_PROMPTED))
    rows = await differences(world, answered=True)
    answers = [row for row in rows if row.shadow and row.shadow.outcome == "finished"]
    assert {row.changes for row in answers} == {("answer",)}
    assert {(row.shadow.model, row.shadow.pool) for row in answers if row.shadow} == {("turnstream-capable", "capable")}


async def test_another_system_text_is_another_prompt() -> None:
    world = ShadowWorld()
    await world.record(questions(3))
    await world.shadow("prompt", "moderation", system=("Answer in verse.",))(world.source(TURNS_ADMITTED))
    rows = await differences(world, answered=False)
    assert {row.changes for row in rows} == {("prompt",)}
    assert all(
        row.original and row.shadow and (row.shadow.prompt_messages or 0) == (row.original.prompt_messages or 0) + 1
        for row in rows
    )


async def test_the_history_is_what_it_was_when_the_turn_was_asked() -> None:
    world = ShadowWorld()
    world.stores.conversations.conversations[conversation_id(1)] = world.owner()
    past = [stored(0, user("first")), stored(1, assistant("answer"))]
    world.stores.history.stored[conversation_id(1)] = list(past)
    # The first offset of its partition would be the conversation's own beginning.
    for _ in range(1_000):
        world.log.put(TURNS_SUBMITTED.name, conversation_id(1).encode(), b"{}")
    await world.record([submitted(turn(1, stored=True, starts_conversation=False), user("second"))], answered=False)
    seq = world.admitted_seq(turn_id(1))
    later = [stored(seq, user("second")), stored(seq + 1, assistant("its answer")), stored(seq + 50, user("third"))]
    world.stores.history.stored[conversation_id(1)] += later
    await world.shadow("prompt", "moderation")(world.source(TURNS_ADMITTED))
    (row,) = await differences(world, answered=False)
    assert row.changes == ()
    assert row.shadow is not None
    assert row.shadow.prompt_messages == 3


async def test_a_store_that_does_not_answer_is_no_decision() -> None:
    world = ShadowWorld()
    await world.record([submitted(turn(1, stored=True), user("hello"))], answered=False)
    world.stores.set_down(down=True)
    run = world.shadow(until_stage="moderation")
    with pytest.raises(Retryable):
        await run(world.source(TURNS_SUBMITTED))
    assert await differences(world, answered=False) == []
    world.stores.set_down(down=False)
    await run(world.source(TURNS_SUBMITTED))
    assert len(await differences(world, answered=False)) == 1
    assert (run.tally.turns, run.tally.passed_over) == (1, 0)


async def test_a_run_that_was_cut_off_gives_each_turn_once() -> None:
    world = ShadowWorld()
    await world.record(questions(10))
    await world.shadow("moderation")(world.source(TURNS_PROMPTED)[:6])
    before = await differences(world, answered=True)
    begun = await find_begun(world.log.reader(), RUN)
    assert len(begun) == 6
    again = world.shadow("moderation", begun=begun)
    await again(world.source(TURNS_PROMPTED))
    rows = await differences(world, answered=True)
    assert len(rows) == 10
    assert changed(rows) == {}
    assert {row.turn_id: row.shadow for row in before}.items() <= {row.turn_id: row.shadow for row in rows}.items()


async def test_replays_and_repetitions_are_passed_over_and_poison_is_counted() -> None:
    world = ShadowWorld()
    await world.record(questions(1), answered=False)
    (record,) = world.source(TURNS_SUBMITTED)
    run = world.shadow(until_stage="moderation")
    replay = record._replace(headers=(*record.headers, (REPLAY, b"another")))
    await run([record, record, replay, record._replace(value=b"{")])
    assert (run.tally.turns, run.tally.passed_over, run.tally.unreadable) == (1, 2, 1)


async def test_a_request_of_a_pool_that_is_not_there_is_counted_as_unreadable() -> None:
    world = ShadowWorld()
    await world.record(questions(2), answered=False)
    run = world.shadow("inference", route=Reroute(None, "gone"))
    await run(world.source(INFERENCE_REQUESTS["fast"]))
    assert (run.tally.turns, run.tally.unreadable) == (0, 1)


def test_stages_follow_each_other() -> None:
    assert [row.name for row in rows_between("prompt", "moderation")] == ["prompt", "moderation"]
    assert rows_between("inference", "inference") == ()
    with pytest.raises(ValueError, match="before"):
        rows_between("moderation", "auth")
    with pytest.raises(ValueError, match="no such stage"):
        rows_between("edge", "auth")
