"""How long the broker gathers records for a member: while they come, or not at all."""

import pytest

from turnstream.log.haste import Haste, limits_of
from turnstream.log.settings import KafkaSettings

SETTINGS = KafkaSettings(fetch_wait_ms_max=500, gathered_fetch_wait_ms_max=20, lazy_fetch_bytes_min=1_000)


@pytest.mark.parametrize(
    ("haste", "coming", "wait_ms_max", "bytes_min"),
    [
        (Haste.AT_ONCE, False, 500, 1),
        (Haste.AT_ONCE, True, 500, 1),
        (Haste.SOON, False, 500, 1),
        (Haste.SOON, True, 20, 1_000),
        (Haste.LAZY, False, 500, 1_000),
        (Haste.LAZY, True, 500, 1_000),
    ],
)
def test_records_are_gathered_by_who_waits_for_them(
    haste: Haste, *, coming: bool, wait_ms_max: int, bytes_min: int
) -> None:
    limits = limits_of(haste, SETTINGS, coming=coming)
    assert (limits.wait_ms_max, limits.bytes_min) == (wait_ms_max, bytes_min)
