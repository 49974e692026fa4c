"""What passes for an id here is what ``schemas.ids`` can read."""

from hypothesis import example, given
from hypothesis import strategies as st

from schemas import ids
from stream_processors.well_formed import defect
from tests.support.turn_events import turn

ALMOST = st.text("0123456789abcdefghijklmnopqrstuvwxyzA \n\u0661", min_size=25, max_size=27)
IDS = st.builds(
    ids.new_turn_id, st.integers(0, 2**48 - 1), st.integers(0, 2**16 - 1), st.binary(min_size=8, max_size=8)
)


def readable(turn_id: str) -> bool:
    try:
        ids.turn_partition(turn_id)
    except ValueError:
        return False
    return True


@given(st.one_of(ALMOST, IDS))
@example("7" + "z" * 25)
@example("8" + "0" * 25)
@example("0" * 26 + "\n")
def test_a_turn_id_is_well_formed_when_it_can_be_read(text: str) -> None:
    assert (defect(turn(turn_id=text)) is None) is readable(text)


@given(st.one_of(ALMOST, IDS), st.sampled_from([ids.CONVERSATION_PREFIX, "", "conv-"]))
@example("7" + "z" * 25, ids.CONVERSATION_PREFIX)
@example("8" + "0" * 25, ids.CONVERSATION_PREFIX)
def test_a_conversation_id_is_well_formed_when_it_is_one(text: str, prefix: str) -> None:
    assert (defect(turn(conversation_id=prefix + text)) is None) is ids.is_conversation_id(prefix + text)


@given(st.integers(0, 2**50))
def test_a_time_is_well_formed_when_an_id_can_hold_it(submitted_at_ms: int) -> None:
    fits = submitted_at_ms < 2**48
    assert (defect(turn(submitted_at_ms=submitted_at_ms)) is None) is fits
