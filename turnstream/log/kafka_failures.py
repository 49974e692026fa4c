"""aiokafka's exceptions in the words of ``schemas.errors``."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from schemas.errors import Fatal, Retryable

_NEEDS_AN_OPERATOR = (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)


@contextmanager
def kafka_failures(action: str) -> Iterator[None]:
    """Raise Retryable for what aiokafka or a deadline raises inside, Fatal where waiting cannot help.

    Only the class of the cause is told: aiokafka's texts may hold what a record held.
    """
    try:
        yield
    except _NEEDS_AN_OPERATOR as error:
        raise Fatal(f"{action}: {type(error).__name__}") from error
    except (KafkaError, TimeoutError, OSError) as error:
        raise Retryable(f"{action}: {type(error).__name__}") from error


@contextmanager
def startup_failures(action: str) -> Iterator[None]:
    """The same while starting, where a missing topic is a mistake in the deployment and therefore Fatal."""
    try:
        with kafka_failures(action):
            yield
    except Retryable as error:
        if isinstance(error.__cause__, UnknownTopicOrPartitionError):
            raise Fatal(f"{action}: a topic does not exist; create the topics first") from error
        raise
