"""Where replay reads: the topics of stages, their partitions, and what models cost."""

from collections.abc import Mapping, Sequence
from typing import Final

from producers.replay.reading import topic_of
from schemas.models import AUTO, Catalogue, Price
from schemas.ports import TopicPartition
from schemas.topics import INFERENCE_REQUESTS, TOKENS
from stream_processors.topology import ROWS
from turnstream.log.kafka_topics import describe_topics
from turnstream.settings import Settings
from turnstream.wiring.topics import planned_topics

INFERENCE: Final = "inference"
SINK: Final = "cassandra_sink"
STAGE_SOURCES: Final[Mapping[str, str]] = {
    **{row.name: row.source.name for row in ROWS},
    **{f"{INFERENCE}.{pool}": topic.name for pool, topic in INFERENCE_REQUESTS.items()},
    SINK: TOKENS.name,
}


def source_of(stage: str) -> str:
    """The topic that ``stage`` reads. Raises ValueError, naming the stages, for one that does not exist."""
    if stage not in STAGE_SOURCES:
        raise ValueError(f"no such stage: {stage}; there are {', '.join(STAGE_SOURCES)}")
    return STAGE_SOURCES[stage]


class TopicPartitions:
    """The partitions of the topics of the contract, and of their dead letters, as the broker has them."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def __call__(self, topic: str) -> Sequence[TopicPartition]:
        """The partitions of ``topic``. Raises ValueError for a topic that is not there."""
        topic_of(topic)
        if not (count := self._counts.get(topic, 0)):
            raise ValueError(f"the broker has no topic {topic}: `turnstream topics --create` makes it")
        return [TopicPartition(topic, number) for number in range(count)]


async def find_partitions(settings: Settings) -> TopicPartitions:
    """Ask the broker once. Raises Retryable when it does not answer."""
    states = await describe_topics(settings.kafka, planned_topics(settings))
    return TopicPartitions({state.plan.name: state.partitions or 0 for state in states})


def prices(settings: Settings) -> Mapping[str, Price]:
    """What the models of the catalogue cost, by every name that stands for one of them; ``auto`` costs the dearest."""
    catalogue = Catalogue.of(settings.models)
    dearest = max((card.price for card in catalogue.cards.values()), key=lambda price: price.output)
    return {AUTO: dearest, **{name: card.price for name, card in catalogue.names.items()}}
