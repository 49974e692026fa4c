from collections import Counter, defaultdict
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from consumers.fair_queue import FairQueue

WEIGHTS = {"heavy": 4.0, "double": 2.0, "half": 0.5}
TENANTS = ("heavy", "double", "plain", "half")
MANY = 10_000

steps = st.lists(st.tuples(st.sampled_from(("put", "take", "finish")), st.sampled_from(TENANTS)), max_size=200)


def take(queue: FairQueue[int]) -> tuple[str, int]:
    taken = queue.take()
    assert taken is not None
    return taken


def backlog(queue: FairQueue[int], tenant: str, items: int) -> None:
    for item in range(items):
        queue.put(tenant, item)


@given(
    weights=st.dictionaries(st.sampled_from(TENANTS), st.sampled_from((0.25, 0.5, 1.0, 2.0, 4.0)), min_size=2),
    takes=st.integers(1, 300),
)
def test_while_all_wait_each_gets_its_share_to_within_one_item(weights: dict[str, float], takes: int) -> None:
    queue: FairQueue[int] = FairQueue(weights, MANY)
    for tenant in weights:
        backlog(queue, tenant, takes)
    served = Counter(take(queue)[0] for _ in range(takes))
    rates = {tenant: Fraction(served[tenant]) / Fraction(weight) for tenant, weight in weights.items()}
    for one, weight in weights.items():
        for other, others in weights.items():
            # Goyal, Vin, Cheng, theorem 1: two backlogged flows differ by at most one item of each.
            assert abs(rates[one] - rates[other]) <= 1 / Fraction(weight) + 1 / Fraction(others)


@given(plan=steps, running_max=st.integers(1, 3))
def test_items_are_neither_lost_nor_overtaken_and_the_cap_holds(plan: list[tuple[str, str]], running_max: int) -> None:
    queue: FairQueue[int] = FairQueue(WEIGHTS, running_max)
    put: defaultdict[str, list[int]] = defaultdict(list)
    taken: defaultdict[str, list[int]] = defaultdict(list)
    running: Counter[str] = Counter()
    for number, (what, tenant) in enumerate(plan):
        if what == "put":
            queue.put(tenant, number)
            put[tenant].append(number)
        elif what == "finish" and running[tenant]:
            queue.finish(tenant)
            running[tenant] -= 1
        elif what == "take":
            may_run = [name for name in TENANTS if len(put[name]) > len(taken[name]) and running[name] < running_max]
            found = queue.take()
            assert (found is not None) == bool(may_run)
            if found is not None:
                assert found[0] in may_run
                taken[found[0]].append(found[1])
                running[found[0]] += 1
    assert all(items == put[tenant][: len(items)] for tenant, items in taken.items())


@given(idle=st.integers(0, 50), backlogged=st.integers(20, 60))
def test_idling_saves_nothing_up(idle: int, backlogged: int) -> None:
    queue: FairQueue[int] = FairQueue({}, MANY)
    queue.put("guest", 0)
    assert queue.take() == ("guest", 0)
    queue.finish("guest")
    backlog(queue, "busy", backlogged + idle)
    for _ in range(idle):
        assert take(queue)[0] == "busy"
    backlog(queue, "guest", backlogged)
    first = [take(queue)[0] for _ in range(20)]
    assert abs(first.count("guest") - 10) <= 1


def test_a_newcomer_waits_for_one_round_of_the_others_at_most() -> None:
    queue: FairQueue[int] = FairQueue(WEIGHTS, MANY)
    for tenant in ("heavy", "double", "plain"):
        backlog(queue, tenant, 1_000)
    for _ in range(500):
        queue.take()
    queue.put("newcomer", 0)
    waited = next(count for count in range(100) if take(queue)[0] == "newcomer")
    assert waited <= (4 + 1) + (2 + 1) + (1 + 1)


def test_many_tenants_that_come_once_leave_nothing_behind() -> None:
    queue: FairQueue[int] = FairQueue({}, MANY)
    for number in range(5_000):
        queue.put(f"tenant{number}", number)
        tenant, _ = take(queue)
        queue.finish(tenant)
    assert len(queue._tenants) + len(queue._heap) <= 4


def test_dropped_items_are_not_given_out() -> None:
    queue: FairQueue[int] = FairQueue({}, MANY)
    backlog(queue, "a", 4)
    backlog(queue, "b", 1)
    queue.drop(lambda item: item % 2 == 0)
    assert [queue.take() for _ in range(3)] == [("a", 1), ("a", 3), None]
