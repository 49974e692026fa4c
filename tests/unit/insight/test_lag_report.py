from collections.abc import Mapping

import pytest

from schemas.ports import TopicPartition
from schemas.topics import TURNS_SUBMITTED, USAGE_EVENTS
from turnstream.insight.lag import (
    Extent,
    GroupState,
    LagReport,
    beyond,
    build_lag,
    contract_groups,
    next_offset,
    oldest,
    waiting_from,
)

NOW_MS = 1_795_000_000_000
AUTH, WINDOWS = TURNS_SUBMITTED.groups[0], "turnstream.windows"
FIRST, SECOND = (TopicPartition(TURNS_SUBMITTED.name, number) for number in range(2))
USAGE = TopicPartition(USAGE_EVENTS.name, 0)
EXTENTS = {FIRST: Extent(5, 20), SECOND: Extent(0, 3), USAGE: Extent(0, 0)}


def auth(committed: Mapping[TopicPartition, int]) -> GroupState:
    return GroupState(AUTH, "Stable", 2, committed)


def report(
    committed: Mapping[TopicPartition, int], written_ms: Mapping[tuple[TopicPartition, int], int] | None = None
) -> LagReport:
    return build_lag([auth(committed)], EXTENTS, written_ms or {}, NOW_MS)


def test_every_group_of_the_contract_is_reported_with_its_topics() -> None:
    groups = contract_groups()
    assert groups[AUTH] == (TURNS_SUBMITTED.name,)
    assert USAGE_EVENTS.name in groups[WINDOWS]


@pytest.mark.parametrize(
    ("committed", "expected"),
    [
        pytest.param(None, 5, id="before the first commit: at the oldest record"),
        pytest.param(7, 7, id="after its commit"),
        pytest.param(2, 5, id="retention took what was not read"),
        pytest.param(25, 20, id="the end was read before the commit"),
    ],
)
def test_where_a_group_goes_on(committed: int | None, expected: int) -> None:
    assert next_offset(committed, Extent(5, 20)) == expected


def test_only_places_with_something_to_read_are_looked_at_and_only_on_topics_of_the_group() -> None:
    windows = GroupState(WINDOWS, "Empty", 0, {})
    assert waiting_from([auth({FIRST: 18, SECOND: 3}), windows], EXTENTS) == {(FIRST, 18)}


def test_a_topic_is_as_far_behind_as_its_oldest_partition() -> None:
    found = report({FIRST: 18, SECOND: 1}, {(FIRST, 18): NOW_MS - 250, (SECOND, 1): NOW_MS - 4_000})
    (group,) = found.groups
    assert (group.records, group.age_ms) == (4, 4_000)
    assert [(one.records, one.age_ms) for one in group.topics[0].partitions] == [(2, 250), (2, 4_000)]


def test_a_group_that_read_everything_is_not_behind() -> None:
    (group,) = report({FIRST: 20, SECOND: 3}).groups
    assert (group.records, group.age_ms) == (0, 0)


def test_a_clock_that_is_behind_the_brokers_makes_no_negative_age() -> None:
    (group,) = report({FIRST: 19, SECOND: 3}, {(FIRST, 19): NOW_MS + 50}).groups
    assert group.age_ms == 0


def test_an_age_that_cannot_be_told_is_unknown_and_not_nothing() -> None:
    (group,) = report({FIRST: 18, SECOND: 3}).groups
    assert group.age_ms is None
    assert oldest([None, 300, 0]) == 300
    assert oldest([]) == 0


def test_limits_name_the_group_and_both_numbers() -> None:
    found = report({FIRST: 18, SECOND: 3}, {(FIRST, 18): NOW_MS - 2_500})
    assert beyond(found, seconds_max=None, records_max=None) == ()
    assert beyond(found, seconds_max=2.5, records_max=2) == ()
    assert beyond(found, seconds_max=2, records_max=1) == (
        f"{AUTH} is 2.5 s behind, more than 2 s",
        f"{AUTH} is 2 records behind, more than 1",
    )
