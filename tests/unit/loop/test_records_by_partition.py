from consumers.records import by_partition
from schemas.ports import Received, Record, TopicPartition
from schemas.tokens import Cancelled

EVENT = Cancelled(turn_id="t", reason="client")


def received(topic: str, partition: int, offset: int) -> Received[Cancelled]:
    return Received(EVENT, Record(topic, partition, offset, None, b"", (), 0), None)


def test_each_partition_keeps_its_order() -> None:
    batch = [received("a", 0, 5), received("a", 1, 2), received("b", 0, 1), received("a", 0, 6)]
    parts = by_partition(batch)
    assert {place: [each.record.offset for each in part] for place, part in parts.items()} == {
        TopicPartition("a", 0): [5, 6],
        TopicPartition("a", 1): [2],
        TopicPartition("b", 0): [1],
    }


def test_no_records_have_no_partitions() -> None:
    assert by_partition([]) == {}
