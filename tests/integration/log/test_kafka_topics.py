import uuid
from dataclasses import replace

import pytest

from schemas.errors import Fatal, Retryable
from schemas.ports import TopicPartition
from schemas.topics import TopicPlan, plan_topics
from turnstream.log.kafka_group_consumer import KafkaGroupConsumer
from turnstream.log.kafka_log_tail import KafkaLogTail
from turnstream.log.kafka_topics import TopicCondition, create_topics, describe_topics, require_topics
from turnstream.log.settings import KafkaSettings

pytestmark = pytest.mark.integration


@pytest.fixture
def plans() -> tuple[TopicPlan, ...]:
    """The contract's topics under names of this test."""
    prefix = uuid.uuid4().hex[:8]
    return tuple(replace(plan, name=f"{prefix}.{plan.name}") for plan in plan_topics(2, 3, 1))


async def test_missing_topics_are_created_once_and_as_planned(
    broker: KafkaSettings, plans: tuple[TopicPlan, ...]
) -> None:
    assert {state.condition for state in await describe_topics(broker, plans)} == {TopicCondition.MISSING}
    assert set(await create_topics(broker, plans)) == {plan.name for plan in plans}
    assert await create_topics(broker, plans) == ()
    await require_topics(broker, plans)
    for state in await describe_topics(broker, plans):
        assert state.condition is TopicCondition.OK
        assert state.partitions == state.plan.partitions
        assert dict(state.config) == dict(state.plan.config)


async def test_a_topic_with_other_partitions_is_refused_by_name(
    broker: KafkaSettings, plans: tuple[TopicPlan, ...]
) -> None:
    first, second, *_ = plans
    await create_topics(broker, [first])
    differs = replace(first, partitions=7)
    with pytest.raises(Fatal, match=f"{first.name} has 2, not 7"):
        await create_topics(broker, [differs, second])
    assert (await describe_topics(broker, [second]))[0].condition is TopicCondition.MISSING
    with pytest.raises(Fatal, match=first.name):
        await require_topics(broker, [differs])


async def test_required_topics_that_are_missing_are_named(broker: KafkaSettings, plans: tuple[TopicPlan, ...]) -> None:
    with pytest.raises(Fatal, match=plans[0].name):
        await require_topics(broker, plans)


async def test_a_broker_that_is_not_there_is_retryable(plans: tuple[TopicPlan, ...]) -> None:
    with pytest.raises(Retryable, match="connect"):
        await describe_topics(KafkaSettings(bootstrap_servers="127.0.0.1:9"), plans)


async def test_clients_of_a_missing_topic_do_not_wait_for_ever(broker: KafkaSettings) -> None:
    # aiokafka's own start would wait for 40 s, and its position() for ever.
    settings = broker.model_copy(update={"start_seconds_max": 1.0})
    missing = f"missing-{uuid.uuid4().hex}"
    with pytest.raises((Retryable, Fatal)):
        async with KafkaGroupConsumer(settings, "g", [missing]):
            pass
    with pytest.raises((Retryable, Fatal)):
        async with KafkaLogTail(settings, [TopicPartition(missing, 0)]):
            pass
