"""Times as operators write them. Pure."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_DURATION: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_MS: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time_ms(text: str, now_ms: int) -> int:
    """Unix milliseconds of ``text``: ISO 8601 (UTC unless it says otherwise), ``2h``, ``1d12h`` or ``90m ago``.

    Raises ValueError for anything else.
    """
    bare = text.strip().removesuffix("ago").rstrip()
    if bare == "now":
        return now_ms
    duration = _DURATION.fullmatch(bare.replace(" ", ""))
    if bare and duration is not None:
        days, hours, minutes, seconds = (int(part or 0) for part in duration.groups())
        return max(0, now_ms - timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds) // _MS)
    try:
        moment = datetime.fromisoformat(bare)
    except (ValueError, OverflowError):
        raise ValueError(f"not a time: {text[:40]}; write 2026-11-21T14:00:00Z, or 2h for two hours ago") from None
    return _unix_ms(moment)


def _unix_ms(moment: datetime) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0, (aware - _EPOCH) // _MS)


def parse_offsets(texts: list[str]) -> dict[int, tuple[int, int]]:
    """Ranges by partition from ``PARTITION:FIRST-LAST`` (both meant) or ``PARTITION:OFFSET``. Raises ValueError."""
    ranges: dict[int, tuple[int, int]] = {}
    for text in texts:
        found = re.fullmatch(r"(\d+):(\d+)(?:-(\d+))?", text)
        if found is None:
            raise ValueError(f"not a range of offsets: {text[:40]}; write PARTITION:FIRST-LAST, such as 3:100-199")
        partition, first, last = int(found[1]), int(found[2]), int(found[3] or found[2])
        if partition in ranges:
            raise ValueError(f"two ranges of partition {partition}: run it twice, or name one range around both")
        if last < first:
            raise ValueError(f"the range {text} ends before it begins")
        ranges[partition] = (first, last + 1)
    return ranges
