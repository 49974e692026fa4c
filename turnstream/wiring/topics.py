"""The topics of this deployment."""

from schemas.topics import TopicPlan, plan_topics
from turnstream.log.kafka_topics import require_topics
from turnstream.settings import Settings


def planned_topics(settings: Settings) -> tuple[TopicPlan, ...]:
    """What must exist on the broker."""
    topics = settings.topics
    return plan_topics(topics.partitions, topics.partitions_tokens, topics.replication)


async def require_all_topics(settings: Settings) -> None:
    """Raises Fatal when a topic is missing or has other partitions than planned: checked before every use."""
    await require_topics(settings.kafka, planned_topics(settings))
