"""Creates the topics of the contract and compares what exists with the plan."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, NoError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from schemas.errors import Fatal, Retryable
from schemas.topics import TopicPlan
from turnstream.log.kafka_failures import kafka_failures
from turnstream.log.settings import KafkaSettings

_SETTLE_S: Final = 0.05


class TopicCondition(StrEnum):
    """How a planned topic stands on the broker."""

    OK = "ok"
    MISSING = "missing"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class TopicState:
    """A planned topic and what the broker has of it; ``partitions`` is None when it does not exist.

    ``config`` holds the broker's values of the names that the plan sets.
    """

    plan: TopicPlan
    partitions: int | None
    config: Mapping[str, str]

    @property
    def condition(self) -> TopicCondition:
        """Whether it is there and as planned. Only partitions and ``cleanup.policy`` decide: both are for ever."""
        if self.partitions is None:
            return TopicCondition.MISSING
        policy = "cleanup.policy"
        same_policy = self.config.get(policy) in (None, dict(self.plan.config).get(policy))
        same = self.partitions == self.plan.partitions and same_policy
        return TopicCondition.OK if same else TopicCondition.DIFFERS


async def describe_topics(settings: KafkaSettings, plans: Sequence[TopicPlan]) -> tuple[TopicState, ...]:
    """The state of every planned topic, in the order of ``plans``. Raises Retryable after ``admin_seconds_max``."""
    async with open_admin(settings) as admin:
        partitions = await _partitions(settings, admin)
        existing = [plan.name for plan in plans if plan.name in partitions]
        configs = await _configs(settings, admin, existing)
    return tuple(
        TopicState(plan, partitions.get(plan.name), _planned_only(plan, configs.get(plan.name, {}))) for plan in plans
    )


async def create_topics(settings: KafkaSettings, plans: Sequence[TopicPlan]) -> tuple[str, ...]:
    """Create what is missing and wait until it can be used; the names of the topics that were created.

    Safe to run from several processes at once. Raises Fatal naming the topics that exist with another number of
    partitions or cleanup policy (nothing is changed then), Retryable when a step exceeds ``admin_seconds_max``.
    """
    states = await describe_topics(settings, plans)
    _refuse_different(states)
    missing = [state.plan for state in states if state.condition is TopicCondition.MISSING]
    if missing:
        async with open_admin(settings) as admin:
            await _create(settings, admin, missing)
            await _settle(settings, admin, missing)
    return tuple(plan.name for plan in missing)


async def require_topics(settings: KafkaSettings, plans: Sequence[TopicPlan]) -> None:
    """Raise Fatal, naming them, unless every planned topic exists as planned; Retryable after a deadline.

    Call it before any client of these topics starts: a wrong number of partitions breaks the order of records
    silently, and a partition that does not exist makes aiokafka wait for ever.
    """
    states = await describe_topics(settings, plans)
    missing = [state.plan.name for state in states if state.condition is TopicCondition.MISSING]
    if missing:
        raise Fatal(f"topics do not exist: {', '.join(missing)}")
    _refuse_different(states)


async def topic_names(settings: KafkaSettings) -> frozenset[str]:
    """Every topic of the broker that can be used. Raises Retryable after ``admin_seconds_max``."""
    async with open_admin(settings) as admin:
        return frozenset(await _partitions(settings, admin))


async def delete_topics(settings: KafkaSettings, names: Sequence[str]) -> None:
    """Delete topics; one that is gone already is no error. Raises Retryable after ``admin_seconds_max``, Fatal."""
    async with open_admin(settings) as admin:
        with kafka_failures("delete topics"):
            async with asyncio.timeout(settings.admin_seconds_max):
                response = await admin.delete_topics(list(names))
    for name, code in response.topic_error_codes:
        error = for_code(code)
        if error not in (NoError, UnknownTopicOrPartitionError):
            raise Fatal(f"delete topic {name}: {error.__name__}")


def _refuse_different(states: Sequence[TopicState]) -> None:
    different = [state for state in states if state.condition is TopicCondition.DIFFERS]
    if different:
        told = ", ".join(f"{one.plan.name} has {one.partitions}, not {one.plan.partitions}" for one in different)
        raise Fatal(f"topics differ from the plan in partitions or cleanup policy: {told}")


@asynccontextmanager
async def open_admin(settings: KafkaSettings) -> AsyncIterator[Any]:
    """An admin client, connected. Raises Retryable after ``start_seconds_max``."""
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.bootstrap_servers,
        client_id=settings.client_id,
        request_timeout_ms=int(settings.admin_seconds_max * 1000),
    )
    try:
        with kafka_failures(f"connect to the broker at {settings.bootstrap_servers}"):
            async with asyncio.timeout(settings.start_seconds_max):
                await admin.start()
        yield admin
    finally:
        await admin.close()


async def _partitions(settings: KafkaSettings, admin: Any) -> dict[str, int]:
    """Partition counts of the topics whose every partition has a leader."""
    with kafka_failures("list the topics"):
        async with asyncio.timeout(settings.admin_seconds_max):
            described = await admin.describe_topics()
    return {
        topic["topic"]: len(topic["partitions"])
        for topic in described
        if for_code(topic["error_code"]) is NoError and all(one["leader"] >= 0 for one in topic["partitions"])
    }


async def _configs(settings: KafkaSettings, admin: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    with kafka_failures("describe the topics"):
        async with asyncio.timeout(settings.admin_seconds_max):
            responses = await admin.describe_configs(resources)
    return {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for response in responses
        for resource in response.resources
    }


def _planned_only(plan: TopicPlan, config: Mapping[str, str]) -> dict[str, str]:
    return {name: config[name] for name, _ in plan.config if name in config}


async def _create(settings: KafkaSettings, admin: Any, plans: Sequence[TopicPlan]) -> None:
    topics = [NewTopic(plan.name, plan.partitions, plan.replication, topic_configs=dict(plan.config)) for plan in plans]
    with kafka_failures("create topics"):
        async with asyncio.timeout(settings.admin_seconds_max):
            response = await admin.create_topics(topics)
    for name, code, *_ in response.topic_errors:
        error = for_code(code)
        # Another process of the deployment was faster, with the same plan.
        if error not in (NoError, TopicAlreadyExistsError):
            kind: type[Exception] = Retryable if issubclass(error, KafkaError) and error.retriable else Fatal
            raise kind(f"create topic {name}: {error.__name__}")


async def _settle(settings: KafkaSettings, admin: Any, plans: Sequence[TopicPlan]) -> None:
    """Wait until every partition has a leader."""
    wanted = {plan.name for plan in plans}
    with kafka_failures("wait for the leaders of new topics"):
        async with asyncio.timeout(settings.admin_seconds_max):
            while wanted - (await _partitions(settings, admin)).keys():  # noqa: ASYNC110 - the broker tells nobody
                await asyncio.sleep(_SETTLE_S)
