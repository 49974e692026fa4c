"""Moments as commands print them."""

from datetime import UTC, datetime


def moment_text(moment_ms: int) -> str:
    """``moment_ms`` (Unix milliseconds) in UTC, to the second."""
    return datetime.fromtimestamp(moment_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
