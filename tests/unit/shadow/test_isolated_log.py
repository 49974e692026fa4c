"""The log of a run: no record reaches a live topic, and what is read back looks like one."""

import pytest

from schemas.headers import REPLAY, TURN
from schemas.ports import Outgoing, TopicPartition
from schemas.shadow import PARTITIONS, shadow_topic
from schemas.topics import TOKENS, TURNS_CANCELLED
from tests.support.memory_log import MemoryLog
from turnstream.shadow.isolated_log import IsolatedProducer, IsolatedReader

RUN = "shadow-1"
HOME = 7


def token(partition: int | None = HOME, name: str = TOKENS.name) -> Outgoing:
    return Outgoing(name, b"turn", b"{}", ((TURN, b"turn"), (REPLAY, b"other")), partition, 5)


async def test_records_are_renamed_marked_and_put_into_few_partitions() -> None:
    log = MemoryLog(PARTITIONS)
    await IsolatedProducer(log.producer(), RUN).append([token()])
    assert log.records(TOKENS.name) == []
    (record,) = log.records(shadow_topic(RUN, TOKENS.name))
    assert (record.partition, record.timestamp_ms) == (HOME % PARTITIONS, 5)
    assert record.headers == ((TURN, b"turn"), (REPLAY, RUN.encode()))


async def test_what_is_read_back_is_as_it_was_written() -> None:
    log = MemoryLog(PARTITIONS)
    offsets = await IsolatedProducer(log.producer(), RUN).append([token(), token(HOME + PARTITIONS)])
    reader = IsolatedReader(log.reader(), RUN)
    home, other = TopicPartition(TOKENS.name, HOME), TopicPartition(TOKENS.name, HOME + PARTITIONS)
    assert await reader.end_offsets([home, other]) == {home: 2, other: 2}
    assert await reader.offsets_at([home], 0) == {home: 0}
    found = await reader.read_range(home, 0, 2)
    assert [record.offset for record in found] == list(offsets)
    assert {(record.source, record.headers) for record in found} == {(home, ((TURN, b"turn"),))}


async def test_a_topic_that_a_run_does_not_write_is_out_of_reach() -> None:
    log = MemoryLog()
    with pytest.raises(ValueError, match="does not write"):
        await IsolatedProducer(log.producer(), RUN).append([token(None, TURNS_CANCELLED.name)])
    assert log.topics() == []
