import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ids

TIMES = st.integers(0, (1 << 48) - 1)
PARTITIONS = st.integers(0, (1 << 16) - 1)
ENTROPY = st.binary(min_size=8, max_size=8)


@given(TIMES, PARTITIONS, ENTROPY)
def test_a_turn_id_gives_back_its_time_and_partition(now_ms: int, partition: int, entropy: bytes) -> None:
    turn_id = ids.new_turn_id(now_ms, partition, entropy)
    assert len(turn_id) == ids.TURN_ID_CHARS
    assert ids.turn_time_ms(turn_id) == now_ms
    assert ids.turn_partition(turn_id) == partition


@given(st.tuples(TIMES, PARTITIONS, ENTROPY), st.tuples(TIMES, PARTITIONS, ENTROPY))
def test_turn_ids_sort_by_time_and_differ_with_their_parts(
    left: tuple[int, int, bytes], right: tuple[int, int, bytes]
) -> None:
    first, second = ids.new_turn_id(*left), ids.new_turn_id(*right)
    assert (first == second) == (left == right)
    if left[0] != right[0]:
        assert (first < second) == (left[0] < right[0])


@given(TIMES, PARTITIONS, ENTROPY)
def test_the_public_form_parses_back(now_ms: int, partition: int, entropy: bytes) -> None:
    turn_id = ids.new_turn_id(now_ms, partition, entropy)
    assert ids.parse_turn_id(ids.public_turn_id(turn_id)) == turn_id
    assert ids.parse_turn_id(turn_id) == turn_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0" * 25,
        "0" * 27,
        "u" * 26,
        "0" * 25 + "I",
        "z" * 26,
        "0" * 25 + "A",
        "chatcmpl-",
        "chatcmpl-chatcmpl-" + "0" * 26,
    ],
)
def test_a_malformed_turn_id_is_refused(text: str) -> None:
    for parse in (ids.parse_turn_id, ids.turn_time_ms, ids.turn_partition):
        with pytest.raises(ValueError, match="an id"):
            parse(text)


@pytest.mark.parametrize(
    ("now_ms", "partition", "entropy"),
    [(-1, 0, bytes(8)), (1 << 48, 0, bytes(8)), (0, -1, bytes(8)), (0, 1 << 16, bytes(8)), (0, 0, bytes(7))],
)
def test_parts_that_do_not_fit_are_refused(now_ms: int, partition: int, entropy: bytes) -> None:
    with pytest.raises(ValueError, match=r"bits|bytes"):
        ids.new_turn_id(now_ms, partition, entropy)


@given(TIMES, st.binary(min_size=10, max_size=10))
def test_a_conversation_id_is_recognised(now_ms: int, entropy: bytes) -> None:
    conversation_id = ids.new_conversation_id(now_ms, entropy)
    assert ids.is_conversation_id(conversation_id)
    assert not ids.is_conversation_id(conversation_id.removeprefix(ids.CONVERSATION_PREFIX))
    assert not ids.is_conversation_id(conversation_id + "0")


def test_a_conversation_id_takes_ten_bytes() -> None:
    with pytest.raises(ValueError, match="10 bytes"):
        ids.new_conversation_id(0, bytes(8))


SEQ_PARTS = st.tuples(st.integers(0, ids.EPOCH_MAX), st.integers(0, (1 << 43) - 1), st.integers(0, 255))


@given(SEQ_PARTS, SEQ_PARTS)
def test_message_seq_orders_by_epoch_then_offset_then_index(
    left: tuple[int, int, int], right: tuple[int, int, int]
) -> None:
    first, second = ids.message_seq(*left), ids.message_seq(*right)
    assert (first < second) == (left < right)
    assert 0 <= first < 1 << 63


def test_messages_of_one_turn_are_neighbours() -> None:
    first = ids.message_seq(3, 1_000, 0)
    assert [ids.message_seq(3, 1_000, index) for index in range(4)] == [first, first + 1, first + 2, first + 3]
    assert ids.message_seq(3, 1_001, 0) == first + ids.MESSAGES_PER_TURN_MAX


@pytest.mark.parametrize("parts", [(ids.EPOCH_MAX + 1, 0, 0), (0, 1 << 43, 0), (0, 0, 256), (0, -1, 0)])
def test_message_seq_refuses_what_does_not_fit(parts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="bits"):
        ids.message_seq(*parts)
