import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import RecordTooLarge
from schemas.ports import Outgoing
from schemas.topics import MAX_RECORD_BYTES, TURNS_SUBMITTED
from turnstream.log.record_size import check_size, record_bytes

HEADERS = st.lists(st.tuples(st.text(max_size=10), st.binary(max_size=300)), max_size=5).map(tuple)


@given(st.binary(max_size=300), st.binary(max_size=3_000), HEADERS)
def test_it_is_an_upper_bound_of_the_batch_that_is_sent(
    key: bytes, value: bytes, headers: tuple[tuple[str, bytes], ...]
) -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1_000_000)
    builder.append(0, 1_700_000_000_000, key, value, list(headers))
    sent = len(builder.build())
    assert sent <= record_bytes(Outgoing("t", key, value, headers))


def test_the_limit_is_that_of_the_topic_and_a_dead_letter_has_room_for_its_origin() -> None:
    record = Outgoing(TURNS_SUBMITTED.name, b"k", b"x" * (MAX_RECORD_BYTES - 50))
    with pytest.raises(RecordTooLarge, match=r"a record of \d+ bytes"):
        check_size(record)
    check_size(Outgoing(TURNS_SUBMITTED.dlq, record.key, record.value))


def test_the_refusal_tells_sizes_and_no_content() -> None:
    with pytest.raises(RecordTooLarge) as caught:
        check_size(Outgoing("t", b"secret-key", b"secret" * MAX_RECORD_BYTES))
    assert "secret" not in str(caught.value)
