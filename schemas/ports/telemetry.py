"""Counts and times."""

from typing import Protocol

from schemas.metrics import Counter, Gauge, Histogram


class Metrics(Protocol):
    """Counts and times under the names of ``schemas.metrics``; label values never hold ids or content."""

    def count(self, name: Counter, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        ...

    def gauge(self, name: Gauge, value: float, **labels: str) -> None:
        """Set a gauge."""
        ...

    def observe(self, name: Histogram, value: float, **labels: str) -> None:
        """Add an observation, in the unit that the name ends with."""
        ...
