"""A record says which schema it was written with; a stage takes only its own."""

import pytest

from consumers.records import receive, receive_all
from schemas import headers, serde
from schemas.errors import Malformed
from schemas.ports import Record
from tests.unit.loop.conftest import SOURCE

VALUE = b'{"turn_id": "t", "reason": "client"}'


def record(written: headers.Headers) -> Record:
    return Record(SOURCE.name, 0, 0, b"k", VALUE, written, 0)


def test_the_next_version_is_not_read_with_this_one() -> None:
    newer = record(((headers.SCHEMA, b"test.source.v9"),))
    with pytest.raises(Malformed):
        receive(SOURCE, newer)
    own, none = record(serde.event_headers(SOURCE, None)), record(())
    received = receive_all(SOURCE, (own, newer, none))
    assert [isinstance(got, Malformed) for got in received] == [False, True, False]
    assert receive(SOURCE, own).event == receive(SOURCE, none).event
