from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from consumers.dispatch import Dispatch, HoldLimits, Ticket
from schemas.ports import Record, TopicPartition


def record(partition: int, offset: int, key: bytes | None) -> Record:
    return Record("t", partition, offset, key, b"", (), 0)


def take_all(dispatch: Dispatch) -> list[Ticket]:
    taken: list[Ticket] = []
    while (ticket := dispatch.take()) is not None:
        taken.append(ticket)
    return taken


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([b"a", b"b", b"c", None])), max_size=40),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_keys_keep_their_order_and_nothing_is_lost(
    plan: list[tuple[int, bytes | None]], in_flight_max: int, chance: object
) -> None:
    dispatch = Dispatch(HoldLimits(in_flight_max=in_flight_max))
    running: list[Ticket] = []
    done: dict[tuple[int, bytes | None], list[int]] = defaultdict(list)
    pending = [record(partition, offset, key) for offset, (partition, key) in enumerate(plan)]
    while pending or running:
        if pending:
            dispatch.add(pending.pop(0))
        running += take_all(dispatch)
        lanes = [ticket.lane for ticket in running]
        assert len(lanes) == len(set(lanes)) <= in_flight_max
        ticket = running.pop(chance.randrange(len(running)))  # type: ignore[attr-defined]
        done[ticket.record.partition, ticket.record.key].append(ticket.record.offset)
        dispatch.finish(ticket)
        running += take_all(dispatch)
    assert sum(map(len, done.values())) == len(plan)
    assert all(offsets == sorted(offsets) for (_, key), offsets in done.items() if key is not None)
    assert not dispatch.held


def test_keys_take_turns() -> None:
    dispatch = Dispatch(HoldLimits(in_flight_max=1))
    for offset, key in enumerate([b"busy", b"busy", b"busy", b"quiet"]):
        dispatch.add(record(0, offset, key))
    order: list[bytes | None] = []
    while (ticket := dispatch.take()) is not None:
        order.append(ticket.record.key)
        dispatch.finish(ticket)
    assert order[:2] == [b"busy", b"quiet"]


def test_a_dropped_partition_gives_its_tickets_and_frees_their_places() -> None:
    dispatch = Dispatch(HoldLimits(in_flight_max=1))
    dispatch.add(record(0, 0, b"a"))
    dispatch.add(record(0, 1, b"a"))
    dispatch.add(record(1, 0, b"a"))
    (running,) = take_all(dispatch)
    assert dispatch.drop(frozenset([TopicPartition("t", 0)])) == [running]
    (other,) = take_all(dispatch)
    assert other.record.partition == 1
    dispatch.finish(running)
    assert dispatch.take() is None
    assert dict(dispatch.held) == {TopicPartition("t", 1): 1}


def test_pausing_has_a_high_and_a_low_water_mark() -> None:
    dispatch = Dispatch(HoldLimits(in_flight_max=10, held_per_partition_records_max=4, held_records_max=100))
    one, two = TopicPartition("t", 0), TopicPartition("t", 1)
    held = frozenset([one, two])
    for offset in range(4):
        dispatch.add(record(0, offset, b"%d" % offset))
    assert dispatch.overfull(held, frozenset()) == {one}
    tickets = take_all(dispatch)
    dispatch.finish(tickets[0])
    assert dispatch.overfull(held, frozenset([one])) == {one}
    dispatch.finish(tickets[1])
    assert dispatch.overfull(held, frozenset([one])) == frozenset()


def test_the_total_limit_pauses_everything_until_half_is_worked_off() -> None:
    dispatch = Dispatch(HoldLimits(in_flight_max=10, held_per_partition_records_max=4, held_records_max=4))
    held = frozenset([TopicPartition("t", 0), TopicPartition("t", 1)])
    for offset in range(4):
        dispatch.add(record(offset % 2, offset, b"%d" % offset))
    assert dispatch.room == 0
    assert dispatch.overfull(held, frozenset()) == held
    tickets = take_all(dispatch)
    dispatch.finish(tickets[0])
    assert dispatch.overfull(held, held) == held
    dispatch.finish(tickets[1])
    assert dispatch.overfull(held, held) == frozenset()
