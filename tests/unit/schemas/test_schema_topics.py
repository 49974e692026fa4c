import re

import pytest

from schemas import topics
from schemas.topics import ALL_TOPICS, Cleanup, Topic, TopicPlan, plan_topics


def by_name(plans: tuple[TopicPlan, ...]) -> dict[str, TopicPlan]:
    return {plan.name: plan for plan in plans}


def test_names_are_unique_and_versioned() -> None:
    names = [topic.name for topic in ALL_TOPICS]
    assert len(names) == len(set(names)) == len(topics.BY_NAME)
    assert all(re.fullmatch(r"[a-z][a-z_.]*\.v[1-9][0-9]*", name) for name in names)


def test_a_group_reads_one_topic_but_for_that_of_the_windows() -> None:
    groups = [group for topic in ALL_TOPICS for group in topic.groups]
    assert {group for group in groups if groups.count(group) > 1} == {"turnstream.windows"}
    assert all(group.startswith("turnstream.") for group in groups)


def test_every_pool_has_its_requests_topic() -> None:
    assert set(topics.INFERENCE_REQUESTS) == set(topics.POOLS)
    for pool, topic in topics.INFERENCE_REQUESTS.items():
        assert pool in topic.name
        assert topic.groups == (f"turnstream.inference.{pool}",)


def test_the_plan_has_every_topic_and_its_dead_letters_once() -> None:
    plans = plan_topics(None, None, 3)
    expected = {topic.name for topic in ALL_TOPICS} | {topic.dlq for topic in ALL_TOPICS if topic.dead_letters}
    assert len(plans) == len(by_name(plans))
    assert by_name(plans).keys() == expected
    assert {plan.replication for plan in plans} == {3}


def test_a_deployment_sets_partitions_and_one_partition_stays_one() -> None:
    plans = by_name(plan_topics(4, 16, 1))
    assert plans[topics.TOKENS.name].partitions == 16
    assert plans[topics.TURNS_SUBMITTED.name].partitions == 4
    assert plans[topics.TURNS_CANCELLED.name].partitions == 1
    assert plans[topics.TOKENS.dlq].partitions == topics.DLQ_PARTITIONS


def test_without_a_wish_the_design_decides() -> None:
    plans = by_name(plan_topics(None, None, 1))
    assert all(plans[topic.name].partitions == topic.partitions for topic in ALL_TOPICS)


@pytest.mark.parametrize("topic", ALL_TOPICS, ids=lambda topic: topic.name)
def test_the_broker_gets_retention_size_and_cleanup(topic: Topic) -> None:
    config = dict(by_name(plan_topics(None, None, 1))[topic.name].config)
    assert config == {
        "cleanup.policy": topic.cleanup.value,
        "max.message.bytes": str(topics.MAX_RECORD_BYTES),
        "retention.ms": str(topic.retention_hours * 3_600_000),
    }


def test_a_dead_letter_has_room_for_the_largest_record_and_is_deleted_by_age() -> None:
    config = dict(by_name(plan_topics(None, None, 1))[topics.TOKENS.dlq].config)
    assert int(config["max.message.bytes"]) > topics.MAX_RECORD_BYTES
    assert config["cleanup.policy"] == Cleanup.DELETE.value
    assert int(config["retention.ms"]) == topics.DLQ_RETENTION_HOURS * 3_600_000
