"""What processes say of themselves at ``/metrics``: read over HTTP, parsed, and compared over time."""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx2
from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Series = Mapping[str, Mapping[Labels, float]]

ANSWER_SECONDS_MAX: Final = 2.0


@dataclass(frozen=True, slots=True)
class Scrape:
    """One process at one time. ``series`` is None when it did not answer, and ``problem`` says how that showed."""

    process: str
    series: Series | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """Every process at one time; ``at_s`` is of a clock that only goes forward."""

    at_s: float
    scrapes: tuple[Scrape, ...] = field(default=())


def parse_exposition(text: str) -> Series:
    """The values of every series, by name and labels. Raises ValueError for what is not Prometheus' text format."""
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


async def take_sample(urls: Mapping[str, str], client: httpx2.AsyncClient, monotonic_s: Callable[[], float]) -> Sample:
    """Ask every process at once; ``urls`` are by process. One that does not answer is told as such."""

    async def scrape(process: str, url: str) -> Scrape:
        try:
            answer = await client.get(url, timeout=ANSWER_SECONDS_MAX)
            answer.raise_for_status()
            return Scrape(process, parse_exposition(answer.text))
        except (httpx2.HTTPError, ValueError) as error:
            return Scrape(process, None, type(error).__name__)

    scrapes = await asyncio.gather(*(scrape(process, url) for process, url in urls.items()))
    return Sample(monotonic_s(), tuple(scrapes))


class Change:
    """Two samples of the same processes, ``before`` taken first."""

    def __init__(self, before: Sample, after: Sample) -> None:
        self.seconds: Final = max(0.001, after.at_s - before.at_s)
        self._before = {scrape.process: scrape.series for scrape in before.scrapes}
        self._after = {scrape.process: scrape.series for scrape in after.scrapes if scrape.series is not None}

    def values(self, name: str) -> Iterator[tuple[str, dict[str, str], float]]:
        """Process, labels and value of each series of a gauge now."""
        for process, series in self._after.items():
            for labels, value in series.get(name, {}).items():
                yield process, dict(labels), value

    def total(self, name: str, by: str) -> dict[str, float]:
        """A gauge now, summed over the processes by one of its labels."""
        found: dict[str, float] = {}
        for _, labels, value in self.values(name):
            place = labels.get(by, "")
            found[place] = found.get(place, 0.0) + value
        return found

    def grown(self, name: str, *by: str, **where: str) -> dict[tuple[str, ...], float]:
        """By how much a counter grew, summed over the processes by labels, of the series that ``where`` picks.

        A process that was started again meanwhile counts from 0; one that did not answer before, not at all.
        """
        found: dict[tuple[str, ...], float] = {}
        for process, series in self._after.items():
            earlier = self._before.get(process)
            if earlier is None:
                continue
            for labels, value in series.get(name, {}).items():
                named = dict(labels)
                if any(named.get(label) != wanted for label, wanted in where.items()):
                    continue
                was = earlier.get(name, {}).get(labels, 0.0)
                place = tuple(named.get(label, "") for label in by)
                found[place] = found.get(place, 0.0) + (value - was if value >= was else value)
        return found

    def rates(self, name: str, *by: str, **where: str) -> dict[tuple[str, ...], float]:
        """The same per second."""
        return {place: amount / self.seconds for place, amount in self.grown(name, *by, **where).items()}

    def rate(self, name: str, **where: str) -> float:
        """The same in all."""
        return sum(self.rates(name, **where).values())

    def quantile(self, name: str, quantile: float, **where: str) -> float | None:
        """A quantile of a histogram's observations between the samples; None without any.

        By linear interpolation inside a bucket, like Prometheus' ``histogram_quantile``; beyond the last finite bound
        it is that bound.
        """
        buckets = sorted((float(le), count) for (le,), count in self.grown(f"{name}_bucket", "le", **where).items())
        if not buckets or buckets[-1][1] <= 0:
            return None
        wanted, low, below = quantile * buckets[-1][1], 0.0, 0.0
        for bound, count in buckets:
            if count >= wanted and count > below:
                return low if math.isinf(bound) else low + (bound - low) * (wanted - below) / (count - below)
            low, below = (bound if not math.isinf(bound) else low), count
        return low
