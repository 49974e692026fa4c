"""What became of dead letters, folded from the audit topic."""

import pytest

from consumers.dead_letter import dead_letter
from producers.redrive.letters import Place, parse_letter_place, parse_place, read_letter
from producers.redrive.states import DISCARD, REDRIVE, REVEAL, UNTOUCHED, LetterState, Rebirth, fold
from schemas.errors import Malformed
from schemas.operations import OperatorActed
from schemas.ports import Record
from schemas.topics import TURNS_SUBMITTED
from tests.support import turn_events as have

ORIGIN = Place(TURNS_SUBMITTED.name, 3, 7)
LETTER = Place(TURNS_SUBMITTED.dlq, 0, 1)


def acted(action: str, outcome: str, new_turn: str | None = None, reason: str | None = None) -> OperatorActed:
    details = {"origin": str(ORIGIN)}
    if new_turn is not None:
        details |= {"turn": have.turn_id(1), "new_turn": new_turn, "tokens_from": "12"}
    return OperatorActed(
        action_id="a",
        actor="os:op",
        action=action,
        subject=str(LETTER),
        outcome=outcome,
        reason=reason,
        details=details,
        acted_at_ms=5,
    )


def test_a_letter_that_nobody_touched_is_open() -> None:
    assert fold([]).of(ORIGIN) == UNTOUCHED
    assert UNTOUCHED.state is LetterState.OPEN


def test_a_redrive_that_only_began_leaves_the_letter_open_with_its_turn() -> None:
    fate = fold([acted(REDRIVE, "begun", have.turn_id(2))]).of(ORIGIN)
    assert (fate.state, fate.rebirth) == (LetterState.OPEN, Rebirth(have.turn_id(2), 12))


def test_the_first_redrive_that_began_names_the_turn_for_all() -> None:
    actions = [
        acted(REDRIVE, "begun", have.turn_id(2)),
        acted(REDRIVE, "begun", have.turn_id(3)),
        acted(REDRIVE, "done", have.turn_id(3)),
    ]
    fates = fold(actions)
    assert fates.of(ORIGIN).rebirth == Rebirth(have.turn_id(2), 12)
    assert fates.of(ORIGIN).state is LetterState.REDRIVEN


def test_a_discard_says_who_and_why() -> None:
    fate = fold([acted(DISCARD, "begun"), acted(DISCARD, "done", reason="spam")]).of(ORIGIN)
    assert (fate.state, fate.actor, fate.reason, fate.acted_at_ms) == (LetterState.DISCARDED, "os:op", "spam", 5)


def test_other_actions_and_other_places_change_nothing() -> None:
    elsewhere = acted(DISCARD, "done").model_copy(update={"details": {"origin": "x"}})
    failed = acted(REDRIVE, "failed", have.turn_id(2))
    assert fold([acted(REVEAL, "done"), elsewhere, failed]).of(ORIGIN) == UNTOUCHED


@pytest.mark.parametrize("text", ["", "a", "a/b", "a/1/x", "a/-1/2", "a/1/2/3", "a/1/²"])
def test_a_place_has_three_parts(text: str) -> None:
    with pytest.raises(ValueError, match="a place is"):
        parse_place(text)


def test_a_letter_lies_on_a_topic_of_dead_letters() -> None:
    assert parse_letter_place(str(LETTER)) == LETTER
    for wrong in (str(ORIGIN), "accounts.changes.v1.dlq/0/1", "nope.dlq/0/1"):
        with pytest.raises(ValueError, match="dlq"):
            parse_letter_place(wrong)


def test_a_letter_is_read_as_it_was_buried() -> None:
    source = Record(*ORIGIN, b"key", b"{", (("turn", have.turn_id(1).encode()),), have.NOW_MS)
    buried = dead_letter(TURNS_SUBMITTED, source, "auth", Malformed("value: no"))
    letter = read_letter(Record(*LETTER, buried.key, buried.value, buried.headers, have.NOW_MS))
    assert letter is not None
    assert (letter.place, letter.origin, letter.stage, letter.cause) == (LETTER, ORIGIN, "auth", "Malformed: value: no")
    assert (letter.turn_id, letter.topic) == (have.turn_id(1), TURNS_SUBMITTED)


def test_a_record_that_does_not_say_where_it_was_is_no_letter() -> None:
    assert read_letter(Record(*LETTER, b"", b"", (), have.NOW_MS)) is None
