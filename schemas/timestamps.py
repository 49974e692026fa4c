"""Cassandra's timestamps as this project counts time."""

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def unix_ms(moment: datetime) -> int:
    """Unix milliseconds of a ``timestamp`` column: the driver gives UTC without saying so."""
    return (moment.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
