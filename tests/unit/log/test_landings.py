import pytest

from schemas.ports import Outgoing, TopicPartition
from turnstream.log.lanes import Batch, Landing, Lane, Place

RECORD = Outgoing("t", b"k", b"v" * 40)


@pytest.fixture
def lane() -> Lane:
    """Two records fill a batch."""
    return Lane(TopicPartition("t", 0), None, 180)


def places_in(lane: Lane, records: int) -> list[Place]:
    return [lane.add(RECORD, 0, 0.0) for _ in range(records)]


def test_records_in_several_batches_land_when_the_last_of_them_does(lane: Lane) -> None:
    told: list[object] = []
    places = places_in(lane, 5)
    batches: list[Batch] = list(dict.fromkeys(batch for batch, _ in places))
    assert [batch.records for batch in batches] == [2, 2, 1]
    Landing(places[1:4], told.append)
    Landing(places[4:], told.append)
    batches[2].finish(14)
    assert told == [[14]]
    batches[0].finish(10)
    assert told == [[14]]
    batches[1].finish(12)
    assert told == [[14], [11, 12, 13]]


def test_nobody_knows_of_records_of_which_one_batch_is_in_doubt(lane: Lane) -> None:
    told: list[object] = []
    places = places_in(lane, 3)
    Landing(places, told.append)
    places[0][0].finish(10)
    assert told == []
    places[2][0].finish(None)
    assert told == [None]


def test_a_batch_lets_go_of_whom_it_told(lane: Lane) -> None:
    told: list[object] = []
    ((batch, number),) = places_in(lane, 1)
    Landing([(batch, number)], told.append)
    batch.finish(3)
    batch.finish(4)
    assert told == [[3]]
