"""Buckets of usage and costs from the rows of turns."""

from typing import Any

import pytest

from consumers.usage_rows.core import row_of
from consumers.usage_rows.stage import StoreUsage
from producers.http.refused import RequestRefused
from producers.usage.core import S_PER_DAY, Filters, cost_buckets, page_of, span, usage_buckets
from schemas.events import Usage
from schemas.models import ModelCard, Price
from schemas.ports import UsageRow
from schemas.topics import USAGE_EVENTS
from tests.support.memory_stores import MemoryUsageRows
from tests.support.processor_world import used
from tests.support.turn_events import NOW_MS, received, turn_id

DAY_S = 20_000 * S_PER_DAY
ALL = Filters()


def row(number: int, at_s: int = DAY_S, **changes: Any) -> UsageRow:
    values: dict[str, Any] = {
        "tenant_id": "acme",
        "user_id": "ann",
        "turn_id": turn_id(number),
        "key_id": "k1",
        "model": "fast",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "cached_tokens": 4,
        "submitted_at_ms": at_s * 1_000,
    }
    return UsageRow(**{**values, **changes})


def test_usage_is_summed_by_bucket_and_an_empty_bucket_has_no_results() -> None:
    of = span(DAY_S + 5, DAY_S + 2 * S_PER_DAY, S_PER_DAY, 7, None)
    first, second = usage_buckets([row(1), row(2, DAY_S + 3_600)], of, ALL, ())
    assert (first["start_time"], first["end_time"]) == (DAY_S, DAY_S + S_PER_DAY)
    (result,) = first["results"]
    assert (result["input_tokens"], result["output_tokens"], result["input_cached_tokens"]) == (20, 10, 8)
    assert (result["num_model_requests"], result["model"], result["user_id"]) == (2, None, None)
    assert second["results"] == []


def test_usage_is_grouped_and_filtered() -> None:
    rows = [row(1), row(2, model="capable"), row(3, model="capable", key_id="k2")]
    of = span(DAY_S, DAY_S + 1, S_PER_DAY, 1, None)
    (bucket,) = usage_buckets(rows, of, ALL, ("model", "api_key_id"))
    assert [(each["model"], each["api_key_id"], each["num_model_requests"]) for each in bucket["results"]] == [
        ("fast", "k1", 1),
        ("capable", "k1", 1),
        ("capable", "k2", 1),
    ]
    (only,) = usage_buckets(rows, of, Filters(models=("capable",), api_key_ids=("k2",)), ())
    assert only["results"][0]["num_model_requests"] == 1


def test_pages_follow_each_other_without_a_gap() -> None:
    first = span(DAY_S, DAY_S + 5 * 60, 60, 2, None)
    page = page_of([], first)
    second = span(DAY_S, DAY_S + 5 * 60, 60, 2, page["next_page"])
    last = span(DAY_S, DAY_S + 5 * 60, 60, 2, page_of([], second)["next_page"])
    assert [*first.starts, *second.starts, *last.starts] == [DAY_S + 60 * number for number in range(5)]
    assert page_of([], last) == {"object": "page", "data": [], "has_more": False, "next_page": None}


@pytest.mark.parametrize("page", ["", "5", "page_", "page_x", "page_-1", "page_1", f"page_{DAY_S + S_PER_DAY}"])
def test_a_page_of_nothing_is_refused(page: str) -> None:
    with pytest.raises(RequestRefused):
        span(DAY_S, DAY_S + 60, 60, 1, page)


def test_an_end_before_the_start_is_refused() -> None:
    with pytest.raises(RequestRefused):
        span(DAY_S, DAY_S, 60, 1, None)


def test_costs_are_by_price_with_cached_tokens_at_theirs() -> None:
    card = ModelCard(
        id="fast",
        pool="fast",
        context_tokens=100,
        output_tokens_max=10,
        price=Price(input=2.0, cached_input=1.0, output=8.0),
    )
    of = span(DAY_S, DAY_S + 1, S_PER_DAY, 1, None)
    (bucket,) = cost_buckets([row(1), row(2, model="gone")], of, ALL, ("line_item",), {"fast": card})
    assert [(each["line_item"], each["amount"]) for each in bucket["results"]] == [
        ("fast", {"value": (6 * 2.0 + 4 * 1.0 + 5 * 8.0) / 1_000_000, "currency": "usd"}),
        ("gone", {"value": 0.0, "currency": "usd"}),
    ]


async def test_an_event_that_comes_twice_is_one_row_and_one_that_used_nothing_is_none() -> None:
    rows = MemoryUsageRows()
    unused = used(2).model_copy(update={"usage": Usage(prompt_tokens=0, completion_tokens=0), "attempt": 0})
    batch = [received(event, USAGE_EVENTS) for event in (used(1), unused, used(1))]
    assert await StoreUsage(rows)(batch) == [(), (), ()]
    assert list(rows.rows) == [turn_id(1)]
    assert row_of(unused) is None
    assert rows.rows[turn_id(1)].submitted_at_ms == NOW_MS
