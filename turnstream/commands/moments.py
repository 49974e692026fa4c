"""Moments as operators write them: ``2h`` ago, or an ISO 8601 time."""

import re
from datetime import UTC, datetime
from typing import Final

_AGO: Final = re.compile(r"([1-9][0-9]{0,5})([smhd])( ago)?")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_moment(text: str, now_ms: int) -> int:
    """Unix milliseconds. A time without a zone is UTC. Raises ValueError."""
    ago = _AGO.fullmatch(text.strip())
    if ago is not None:
        return max(0, now_ms - int(ago[1]) * _SECONDS[ago[2]] * 1_000)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("a moment is 90s, 15m, 2h or 3d ago, or a time such as 2026-01-31T14:00") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, round(moment.timestamp() * 1_000))


def moment_text(moment_ms: int) -> str:
    """``moment_ms`` (Unix milliseconds) in UTC, to the second."""
    return datetime.fromtimestamp(moment_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
