"""How long a broker gathers records before it answers a member of a group."""

from enum import Enum, auto
from typing import Final

from turnstream.log.settings import KafkaSettings
from turnstream.log.wire.fetch import FetchLimits

_ANY: Final = 1


class Haste(Enum):
    """When the broker gives out a record that has come: many together cost less.

    ``SOON`` is at once after a pause, and within ``gathered_fetch_wait_ms_max`` while records come; ``LAZY`` is within
    ``fetch_wait_ms_max``, for records that nobody waits for.
    """

    AT_ONCE = auto()
    SOON = auto()
    LAZY = auto()


def limits_of(haste: Haste, settings: KafkaSettings, *, coming: bool) -> FetchLimits:
    """Of the next long poll; ``coming`` is whether the last one brought anything."""
    gathering = haste is Haste.SOON and coming
    return FetchLimits(
        settings.gathered_fetch_wait_ms_max if gathering else settings.fetch_wait_ms_max,
        settings.lazy_fetch_bytes_min if gathering or haste is Haste.LAZY else _ANY,
        settings.fetch_bytes_max,
        settings.fetch_partition_bytes_max,
    )
