"""The driver's errors as ours."""

from typing import Final

from cassandra import (
    AuthenticationFailed,
    CoordinationFailure,
    DriverException,
    OperationTimedOut,
    RequestValidationException,
    Timeout,
    Unavailable,
    UnresolvableContactPoints,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.protocol import ErrorMessage

from schemas.errors import Fatal, Retryable

# What asking the driver may raise.
DRIVER_ERRORS: Final = (DriverException, NoHostAvailable, ConnectionException, ErrorMessage, TimeoutError)
# What a later request may find healed. Everything else that the driver raises is a mistake of ours or of the set-up.
_PASSING: Final = (
    Unavailable,
    Timeout,
    CoordinationFailure,
    OperationTimedOut,
    NoHostAvailable,
    ConnectionException,
    UnresolvableContactPoints,
    TimeoutError,
)


def translated(error: Exception, query: str) -> Retryable | Fatal:
    """``error``, raised by the driver for ``query`` (whose text holds no values), as ours."""
    # The query has markers for values, so its text holds no content; the driver's message might.
    kind = type(error).__name__
    if isinstance(error, NoHostAvailable) and any(_is_refusal(cause) for cause in _causes(error)):
        return Fatal(f"Cassandra refused us ({kind}): {query}")
    if isinstance(error, _PASSING) or (isinstance(error, ErrorMessage) and not _is_refusal(error)):
        return Retryable(f"Cassandra did not answer ({kind}): {query}")
    return Fatal(f"Cassandra rejected a statement ({kind}): {query}")


def _is_refusal(error: object) -> bool:
    return isinstance(error, AuthenticationFailed | RequestValidationException)


def _causes(error: NoHostAvailable) -> tuple[object, ...]:
    return tuple(error.errors.values()) if isinstance(error.errors, dict) else ()
