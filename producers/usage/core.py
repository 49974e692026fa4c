"""Usage and costs in OpenAI's page shape, from the rows of turns. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from producers.http.refused import RequestRefused
from schemas.errors import invalid_request
from schemas.models import ModelCard, Price
from schemas.ports import UsageRow

Width = Literal["1m", "1h", "1d"]
GroupBy = Literal["project_id", "user_id", "api_key_id", "model", "batch", "service_tier", "line_item"]

S_PER_DAY: Final = 86_400
WIDTHS_S: Final[Mapping[Width, int]] = {"1m": 60, "1h": 3_600, "1d": S_PER_DAY}
# Buckets of a page: when the request does not say, and at most.
BUCKETS: Final[Mapping[Width, tuple[int, int]]] = {"1m": (60, 1_440), "1h": (24, 168), "1d": (7, 31)}
COST_BUCKETS: Final = (7, 180)
TIME_S_MAX: Final = 1 << 40
_PAGE_PREFIX: Final = "page_"
_PER_MILLION: Final = 1_000_000
_MS_PER_S: Final = 1_000


@dataclass(frozen=True, slots=True)
class Span:
    """The buckets of one page: from ``start_s`` (aligned to ``width_s``) until before ``end_s``; more follow if so."""

    start_s: int
    end_s: int
    width_s: int
    has_more: bool

    @property
    def days(self) -> tuple[int, int]:
        """The first and the last day (since 1970) that it touches."""
        return self.start_s // S_PER_DAY, (self.end_s - 1) // S_PER_DAY

    @property
    def starts(self) -> range:
        """The start of each bucket."""
        return range(self.start_s, self.end_s, self.width_s)


@dataclass(frozen=True, slots=True)
class Filters:
    """What of the usage counts. Empty: everything."""

    models: tuple[str, ...] = ()
    api_key_ids: tuple[str, ...] = ()
    user_ids: tuple[str, ...] = ()

    def admit(self, row: UsageRow) -> bool:
        """Whether the row counts."""
        return (
            (not self.models or row.model in self.models)
            and (not self.api_key_ids or row.key_id in self.api_key_ids)
            and (not self.user_ids or row.user_id in self.user_ids)
        )


def span(start_s: int, end_s: int, width_s: int, limit: int, page: str | None) -> Span:
    """The page of at most ``limit`` buckets. Raises RequestRefused (400) for a page or an end that makes no sense."""
    if end_s <= start_s:
        raise RequestRefused(invalid_request("'end_time' must be after 'start_time'.", "end_time", "invalid_value"))
    first_s = start_s - start_s % width_s
    if page is not None:
        place = page.removeprefix(_PAGE_PREFIX)
        if place == page or not (place.isascii() and place.isdecimal()) or not first_s <= int(place) < end_s:
            raise RequestRefused(invalid_request("'page' is not a page of this list.", "page", "invalid_value"))
        first_s = int(place) - int(place) % width_s
    last_s = end_s + -end_s % width_s
    stop_s = min(last_s, first_s + limit * width_s)
    return Span(first_s, stop_s, width_s, has_more=stop_s < last_s)


def page_of(buckets: Sequence[dict[str, Any]], of: Span) -> dict[str, Any]:
    """OpenAI's page object."""
    return {
        "object": "page",
        "data": list(buckets),
        "has_more": of.has_more,
        "next_page": f"{_PAGE_PREFIX}{of.end_s}" if of.has_more else None,
    }


def usage_buckets(
    rows: Iterable[UsageRow], of: Span, filters: Filters, group_by: Sequence[GroupBy]
) -> list[dict[str, Any]]:
    """The buckets of ``/v1/organization/usage/completions``; one without usage has no results."""
    return [_bucket(start_s, of, _grouped(found, group_by)) for start_s, found in _by_bucket(rows, of, filters)]


def cost_buckets(
    rows: Iterable[UsageRow], of: Span, filters: Filters, group_by: Sequence[GroupBy], models: Mapping[str, ModelCard]
) -> list[dict[str, Any]]:
    """The buckets of ``/v1/organization/costs``, by today's prices of the catalogue."""
    return [_bucket(start_s, of, _costs(found, group_by, models)) for start_s, found in _by_bucket(rows, of, filters)]


def cost_usd(row: UsageRow, price: Price) -> float:
    """What a turn costs: cached prompt tokens by their own price."""
    fresh = max(0, row.prompt_tokens - row.cached_tokens)
    dollars = fresh * price.input + row.cached_tokens * price.cached_input + row.completion_tokens * price.output
    return dollars / _PER_MILLION


def _by_bucket(rows: Iterable[UsageRow], of: Span, filters: Filters) -> Iterable[tuple[int, list[UsageRow]]]:
    found: dict[int, list[UsageRow]] = {start_s: [] for start_s in of.starts}
    for row in rows:
        at_s = row.submitted_at_ms // _MS_PER_S
        bucket = found.get(at_s - at_s % of.width_s)
        if bucket is not None and filters.admit(row):
            bucket.append(row)
    return found.items()


def _bucket(start_s: int, of: Span, results: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "bucket", "start_time": start_s, "end_time": start_s + of.width_s, "results": results}


def _grouped(rows: Iterable[UsageRow], group_by: Sequence[GroupBy]) -> list[dict[str, Any]]:
    results: dict[tuple[str | None, ...], dict[str, Any]] = {}
    for row in rows:
        names = {
            "user_id": row.user_id if "user_id" in group_by else None,
            "api_key_id": row.key_id if "api_key_id" in group_by else None,
            "model": row.model if "model" in group_by else None,
        }
        result = results.setdefault(tuple(names.values()), {**_EMPTY, **names})
        result["input_tokens"] += row.prompt_tokens
        result["output_tokens"] += row.completion_tokens
        result["input_cached_tokens"] += row.cached_tokens
        result["num_model_requests"] += 1
    return list(results.values())


def _costs(
    rows: Iterable[UsageRow], group_by: Sequence[GroupBy], models: Mapping[str, ModelCard]
) -> list[dict[str, Any]]:
    sums: dict[tuple[str | None, str | None], float] = {}
    for row in rows:
        card = models.get(row.model)
        place = (
            row.model if "line_item" in group_by else None,
            row.key_id if "api_key_id" in group_by else None,
        )
        sums[place] = sums.get(place, 0.0) + cost_usd(row, Price() if card is None else card.price)
    return [
        {
            "object": "organization.costs.result",
            "amount": {"value": round(dollars, 9), "currency": "usd"},
            "line_item": line_item,
            "project_id": None,
            "api_key_id": key_id,
        }
        for (line_item, key_id), dollars in sums.items()
    ]


_EMPTY: Final[Mapping[str, Any]] = {
    "object": "organization.usage.completions.result",
    "input_tokens": 0,
    "output_tokens": 0,
    "input_cached_tokens": 0,
    "input_audio_tokens": 0,
    "output_audio_tokens": 0,
    "num_model_requests": 0,
    "project_id": None,
    "user_id": None,
    "api_key_id": None,
    "model": None,
    "batch": None,
    "service_tier": None,
}
