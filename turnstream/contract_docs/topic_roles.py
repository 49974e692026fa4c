"""Which stage writes and reads which topic, in the words of ``schemas.topics``."""

import re
from typing import Final

from schemas import topics
from schemas.topics import Topic

# Stages before inference that may answer a turn with a refusal on the tokens topic.
REFUSING_STAGES: Final = ("auth", "rate_limit", "prompt")
_ANY_REFUSAL: Final = "any stage that refuses"
_GROUP_PREFIX: Final = "turnstream."
# Read by position, without a consumer group, and so not among the topic's groups.
_GROUPLESS_READERS: Final = {
    topics.TOKENS.name: ("edge", "inference"),
    topics.TURNS_CANCELLED.name: ("inference",),
    topics.ABUSE_SIGNALS.name: ("auth",),
}


def writers(topic: Topic) -> tuple[str, ...]:
    """The stages that append to ``topic``."""
    named = tuple(part.strip() for part in re.split("[,;]", topic.producer))
    if _ANY_REFUSAL not in named:
        return named
    return (*(stage for stage in named if stage != _ANY_REFUSAL), *REFUSING_STAGES)


def readers(topic: Topic) -> tuple[str, ...]:
    """The stages that read ``topic``, those with a consumer group first."""
    grouped = tuple(group.removeprefix(_GROUP_PREFIX) for group in topic.groups)
    return grouped + _GROUPLESS_READERS.get(topic.name, ())
