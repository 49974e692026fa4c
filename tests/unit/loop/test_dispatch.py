from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from consumers.dispatch import Dispatch, HoldLimits, Ticket
from schemas import headers
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


def of_tenant(tenant: str, offset: int, key: bytes | None = None) -> Record:
    return Record("t", 0, offset, key, b"", ((headers.TENANT, tenant.encode()),), 0)


def test_a_tenant_with_many_conversations_does_not_hold_up_one_with_few() -> None:
    dispatch = Dispatch(HoldLimits(in_flight_max=1))
    for offset in range(100):
        dispatch.add(of_tenant("flood", offset))
    for offset in range(100, 103):
        dispatch.add(of_tenant("quiet", offset))
    order: list[str] = []
    while (ticket := dispatch.take()) is not None:
        order.append(ticket.tenant)
        dispatch.finish(ticket)
    assert len(order) == 103
    assert order[:6].count("quiet") == 3


def test_weights_divide_the_capacity_and_a_record_without_a_tenant_has_weight_one() -> None:
    dispatch = Dispatch(HoldLimits(in_flight_max=30, tenant_weights={"gold": 4.0}))
    for offset in range(100):
        dispatch.add(of_tenant("gold", offset))
        dispatch.add(record(0, 100 + offset, None))
    assert abs([ticket.tenant for ticket in take_all(dispatch)].count("gold") - 24) <= 1


def test_a_tenant_may_be_kept_from_taking_all_of_an_idle_member() -> None:
    dispatch = Dispatch(HoldLimits(in_flight_max=10, tenant_in_flight_share_max=0.3))
    for offset in range(10):
        dispatch.add(of_tenant("a", offset))
    running = take_all(dispatch)
    assert len(running) == 3
    dispatch.finish(running[0])
    assert len(take_all(dispatch)) == 1


def test_held_bytes_are_bounded() -> None:
    dispatch = Dispatch(HoldLimits(held_bytes_max=10))
    dispatch.add(record(0, 0, b"0123456789"))
    assert dispatch.room == 0
    (ticket,) = take_all(dispatch)
    assert dispatch.overfull(frozenset([ticket.record.source]), frozenset()) == {ticket.record.source}
    dispatch.finish(ticket)
    assert dispatch.room > 0
