"""One planted bug per check: the checker names that check, and no other."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from schemas.topics import TURNS_SUBMITTED, USAGE_EVENTS
from tests.faults.checker import check
from tests.faults.evidence import Check
from tests.faults.operations import Action, Event, Operation
from tests.unit.faults.fault_run import CONVERSATION, OWNER, FaultRun, clean_run, kind_of, turn_id

LAST = "t3.a"
Mutant = Callable[[FaultRun], None]
MUTANTS: dict[str, tuple[Mutant, set[Check]]] = {}


def planted(*checks: Check) -> Callable[[Mutant], Mutant]:
    """Name the checks that must find the bug."""

    def keep(mutant: Mutant) -> Mutant:
        MUTANTS[mutant.__name__] = mutant, set(checks)
        return mutant

    return keep


def of(event: Event, request: str) -> Callable[[Operation], bool]:
    return lambda one: one.event is event and one.request == request


def piece(seq: int, request: str = "r3.1") -> Callable[[Operation], bool]:
    return lambda one: one.event is Event.PIECE and one.request == request and one.seq == seq


def without_end(run: FaultRun, number: int) -> None:
    """The log of the turn stops before its terminal; nothing that follows from a terminal happens."""
    for kind in ("finished", "persisted"):
        run.drop_entries(kind_of(kind, number))
    run.drop_entries(lambda one: one.topic == USAGE_EVENTS.name and one.value["turn_id"] == turn_id(number))


def unseen_end(run: FaultRun) -> None:
    """The client of the last turn still reads when the run ends."""
    tail = {Event.FINISH, Event.DONE, Event.OK, Event.HISTORY}
    run.drop_operations(lambda one: one.reader == LAST and one.event in tail)


@planted(Check.LOST_TURN)
def accepted_and_never_ended(run: FaultRun) -> None:
    without_end(run, 3)
    unseen_end(run)


@planted(Check.LOST_TURN)
def submitted_and_never_seen_again(run: FaultRun) -> None:
    lost = {"turn_id": turn_id(9), "conversation_id": CONVERSATION}
    run.append(TURNS_SUBMITTED.name, {"turn": lost, "input": [{"role": "user", "content": "tag:key-9"}]})


@planted(Check.LOST_TURN, Check.UNENDED_STREAM)
def done_without_terminal(run: FaultRun) -> None:
    without_end(run, 3)


@planted(Check.UNENDED_STREAM)
def clean_end_without_done(run: FaultRun) -> None:
    run.replace_operation(of(Event.DONE, "r3.1"), event=Event.ENDED, told=False)
    run.drop_operations(of(Event.HISTORY, "r3.history"))


@planted(Check.UNENDED_STREAM)
def accepted_client_gives_up(run: FaultRun) -> None:
    run.replace_operation(lambda one: one.reader == LAST and one.event is Event.OK, event=Event.UNKNOWN)


@planted(Check.UNANSWERED)
def client_without_head_gives_up(run: FaultRun) -> None:
    run.note(Event.INVOKE, client=2, reader="t4.a", key="key-4", prompt="tag:key-4")
    run.note(Event.UNKNOWN, client=2, reader="t4.a", key="key-4")


@planted(Check.FALSE_FAILURE)
def failure_of_a_finished_turn(run: FaultRun) -> None:
    told = {"event": Event.FAIL, "code": "turn_failed"}
    run.replace_operation(lambda one: one.reader == LAST and one.event is Event.OK, **told)


@planted(Check.WRONG_ENDING)
def another_finish_reason(run: FaultRun) -> None:
    run.replace_operation(of(Event.FINISH, "r3.1"), finish_reason="length")


@planted(Check.TOKEN_REPEAT)
def piece_repeated_to_the_client(run: FaultRun) -> None:
    place = next(place for place, one in enumerate(run.operations) if piece(2)(one))
    run.operations.insert(place, run.operations[place])


@planted(Check.TOKEN_REPEAT)
def resumed_one_piece_too_early(run: FaultRun) -> None:
    place = next(place for place, one in enumerate(run.operations) if piece(3, "r2.2")(one))
    early = next(one for one in run.operations if piece(2, "r2.1")(one))
    run.operations.insert(place, early.model_copy(update={"request": "r2.2"}))


@planted(Check.TOKEN_GAP)
def piece_missing_at_the_client(run: FaultRun) -> None:
    run.drop_operations(piece(2))


@planted(Check.TOKEN_GAP)
def last_piece_missing_at_the_client(run: FaultRun) -> None:
    last = max(one.seq or 0 for one in run.operations if one.event is Event.PIECE and one.request == "r3.1")
    run.drop_operations(piece(last))


@planted(Check.TOKEN_GAP)
def resumed_one_piece_too_late(run: FaultRun) -> None:
    run.drop_operations(piece(3, "r2.2"))


@planted(Check.FOREIGN_TEXT)
def text_of_somebody_else(run: FaultRun) -> None:
    run.replace_operation(piece(2), text="somebody else's")


@planted(Check.FOREIGN_TEXT)
def the_model_never_said_that(run: FaultRun) -> None:
    # Everybody agrees on it: only the model knows better.
    def forge(text: str) -> str:
        return text.replace("16", "61")

    run.entries = [
        replace(one, value={**one.value, "content": forge(one.value["content"])}) if "content" in one.value else one
        for one in run.entries
    ]
    run.messages = [replace(row, content=forge(row.content)) for row in run.messages]
    run.operations = [_forged(one, forge) for one in run.operations]


def _forged(one: Operation, forge: Callable[[str], str]) -> Operation:
    items = None if one.items is None else tuple(i.model_copy(update={"text": forge(i.text)}) for i in one.items)
    return one.model_copy(update={"text": one.text and forge(one.text), "items": items})


@planted(Check.UNLIKE_FRAMES)
def another_form_for_another_reader(run: FaultRun) -> None:
    second = {"client": 1, "reader": "t3.b", "request": "r3.9"}
    run.note(Event.REQUEST, **second, action=Action.RESUME, edge="edge-2")
    run.note(Event.HEAD, **second, status=200, turn_id=turn_id(3))
    first = next(one for one in run.operations if piece(0)(one))
    run.note(Event.PIECE, **second, text=first.text, cursor=first.cursor, digest="another")


@planted(Check.DOUBLE_BILL)
def two_bills(run: FaultRun) -> None:
    bill = next(one for one in run.entries if one.topic == USAGE_EVENTS.name)
    run.append(USAGE_EVENTS.name, {**bill.value, "attempt": 2})


@planted(Check.WRONG_BILL)
def bill_of_other_tokens(run: FaultRun) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 99, "cached_tokens": 0}
    run.replace_entry(lambda one: one.topic == USAGE_EVENTS.name, usage=usage)


@planted(Check.WRONG_BILL)
def no_bill(run: FaultRun) -> None:
    run.drop_entries(lambda one: one.topic == USAGE_EVENTS.name and one.value["turn_id"] == turn_id(2))


@planted(Check.WRONG_BILL)
def refused_and_billed(run: FaultRun) -> None:
    refusal = {"status": 429, "error": {"message": "No.", "type": "rate_limit_error"}}
    run.append("chat.tokens.v1", {"type": "refused", "turn_id": turn_id(9), "stage": "auth", "refusal": refusal})
    usage = {"prompt_tokens": 3, "completion_tokens": 0, "cached_tokens": 0}
    run.append(USAGE_EVENTS.name, {"turn_id": turn_id(9), "usage": usage, "finish_reason": "stop"})


@planted(Check.DOUBLE_ANSWER)
def second_turn_for_one_key(run: FaultRun) -> None:
    for entry in [one for one in run.entries if turn_id(3) in str(one.value)]:
        run.append(entry.topic, _renamed(entry.value))
    run.messages += [
        replace(row, turn_id=turn_id(4), message_seq=row.message_seq + 256)
        for row in run.messages
        if row.turn_id == turn_id(3)
    ]
    run.turns.append(replace(run.turns[-1], turn_id=turn_id(4)))
    run.conversations[CONVERSATION] = replace(run.conversations[CONVERSATION], last_turn_id=turn_id(4))


def _renamed(value: Any) -> Any:
    """The same event of turn 4, right after turn 3 in the conversation."""
    if isinstance(value, dict):
        return {name: part + 256 if name == "message_seq" else _renamed(part) for name, part in value.items()}
    return turn_id(4) if value == turn_id(3) else value


@planted(Check.DOUBLE_ANSWER)
def second_answer_in_the_conversation(run: FaultRun) -> None:
    run.messages.append(replace(run.messages[-1], message_seq=9_999))


@planted(Check.WRONG_ORDER)
def sequence_that_does_not_grow(run: FaultRun) -> None:
    # The last turn is written as if it came first.
    run.replace_entry(kind_of("cleared", 3), message_seq=16)
    run.messages = [
        replace(row, message_seq=row.message_seq - 3 * 256 + 16) if row.turn_id == turn_id(3) else row
        for row in run.messages
    ]
    run.conversations[CONVERSATION] = replace(run.conversations[CONVERSATION], last_turn_id=turn_id(2))
    # It is also accepted and worked on long after the turn that now comes second: only the sequence is wrong.


@planted(Check.OVERLAP)
def worked_on_before_the_turn_before_ended(run: FaultRun) -> None:
    place = next(place for place, one in enumerate(run.entries) if kind_of("attempt_started", 3)(one))
    end = next(one for one in run.entries if kind_of("finished", 2)(one))
    run.entries[place] = replace(run.entries[place], timestamp_ms=end.timestamp_ms - 5)


@planted(Check.BUSY_IGNORED)
def accepted_instead_of_409(run: FaultRun) -> None:
    end = next(one for one in run.entries if kind_of("finished", 2)(one))
    run.replace_operation(of(Event.HEAD, "r3.1"), wall_ms=end.timestamp_ms - 5)


@planted(Check.WRONG_BUSY)
def conflict_with_an_unknown_turn(run: FaultRun) -> None:
    request = {"client": 1, "reader": "t5.b", "request": "r5.1"}
    run.note(Event.REQUEST, **request, action=Action.POST, conversation_id=CONVERSATION)
    run.note(Event.HEAD, **request, status=409, code="conversation_busy", active_turn_id=turn_id(77))


@planted(Check.WRONG_BUSY)
def conflict_with_a_turn_that_was_over(run: FaultRun) -> None:
    request = {"client": 1, "reader": "t5.b", "request": "r5.1"}
    run.note(Event.REQUEST, **request, action=Action.POST, conversation_id=CONVERSATION)
    run.note(Event.HEAD, **request, status=409, code="conversation_busy", active_turn_id=turn_id(3))


@planted(Check.KEY_CHANGED)
def key_with_another_turn(run: FaultRun) -> None:
    second = {"client": 1, "reader": "t2.b", "request": "r2.9"}
    run.note(Event.REQUEST, **second, action=Action.POST, key="key-2")
    run.note(Event.HEAD, **second, status=200, turn_id=turn_id(3))
    # The turn of the other key keeps its own: what is wrong is what this client was told.
    mine = next(one for one in run.operations if of(Event.REQUEST, "r3.1")(one))
    run.operations.remove(mine)
    run.operations.append(mine)
    rest = [one for one in run.operations if one.request == "r3.1" and one.event is not Event.REQUEST]
    run.operations = [one for one in run.operations if one not in rest] + rest
    history = next(one for one in run.operations if of(Event.HISTORY, "r3.history")(one))
    run.operations.append(history)


@planted(Check.MISSING_HISTORY)
def history_without_the_answer(run: FaultRun) -> None:
    history = next(one for one in run.operations if of(Event.HISTORY, "r3.history")(one))
    run.replace_operation(of(Event.HISTORY, "r3.history"), items=(history.items or ())[:-1])


@planted(Check.MISSING_HISTORY)
def history_with_a_draft(run: FaultRun) -> None:
    history = next(one for one in run.operations if of(Event.HISTORY, "r3.history")(one))
    *before, last = history.items or ()
    draft = last.model_copy(update={"text": last.text[:5], "status": "incomplete"})
    run.replace_operation(of(Event.HISTORY, "r3.history"), items=(*before, draft))


@planted(Check.MISSING_ROW)
def no_row_of_the_answer(run: FaultRun) -> None:
    run.messages.pop()


@planted(Check.MISSING_ROW)
def no_row_of_the_question(run: FaultRun) -> None:
    run.messages.pop(-2)


@planted(Check.MISSING_ROW)
def row_cut_short(run: FaultRun) -> None:
    run.messages[-1] = replace(run.messages[-1], content=run.messages[-1].content[:-1])


@planted(Check.MISSING_ROW)
def row_still_a_draft(run: FaultRun) -> None:
    run.messages[-1] = replace(run.messages[-1], status="streaming")


@planted(Check.MISSING_ROW)
def no_row_of_the_turn(run: FaultRun) -> None:
    run.turns.pop()


@planted(Check.MISSING_ROW)
def conversation_with_an_older_turn(run: FaultRun) -> None:
    run.conversations[CONVERSATION] = replace(run.conversations[CONVERSATION], last_turn_id=turn_id(1))


@planted(Check.NOT_HEALED)
def process_stays_down(run: FaultRun) -> None:
    run.note(Event.FAULT, fault="kill -9", target="sink")
    run.note(Event.HEALED, fault="kill -9", target="sink", status=0)


def test_a_clean_run_has_no_violations() -> None:
    run = clean_run()
    assert check(run.operations, run.dump) == []


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_planted_bug_is_named(name: str) -> None:
    mutant, wanted = MUTANTS[name]
    run = clean_run()
    mutant(run)
    assert {violation.check for violation in check(run.operations, run.dump)} == wanted


def test_every_check_has_a_mutant() -> None:
    found = {one for _, checks in MUTANTS.values() for one in checks}
    # Two readings of the log can only differ through a bug of the contract itself, planted below.
    assert found == set(Check) - {Check.FOLD_DISAGREES}


def test_a_reducer_that_lets_zombies_write_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    run = clean_run()
    delta = next(one for one in run.entries if kind_of("delta", 1)(one))
    place = run.entries.index(delta)
    run.entries.insert(place, replace(delta, value={**delta.value, "attempt": 7, "owner": "zombie", "content": "!"}))
    assert check(run.operations, run.dump) == []
    monkeypatch.setattr("schemas.stream_state.StreamState.owned_by", lambda *_: True)
    assert Check.FOLD_DISAGREES in {violation.check for violation in check(run.operations, run.dump)}


def test_what_does_not_count_is_no_violation() -> None:
    run = clean_run()
    late = {"turn_id": turn_id(3), "attempt": 1, "owner": OWNER}
    run.append("chat.tokens.v1", {"type": "delta", **late, "seq": 99, "content": "late", "tokens": 1})
    run.append("chat.tokens.v1", {"type": "attempt_started", **late, "attempt": 9})
    run.append("chat.tokens.v1", {"type": "cancelled", "turn_id": turn_id(3), "reason": "client"})
    run.append("chat.tokens.v1", {"type": "probed", "edge_id": "edge-1", "nonce": "n"})
    bill = next(one for one in run.entries if one.topic == USAGE_EVENTS.name)
    run.append(USAGE_EVENTS.name, bill.value)
    assert check(run.operations, run.dump) == []
