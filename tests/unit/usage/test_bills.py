"""What a turn costs, exactly."""

import pytest

from schemas.bills import Billing, cost_nano_usd
from schemas.events import Usage
from schemas.models import DEFAULT_CATALOGUE, Price

FAST = Price(input=0.10, cached_input=0.05, output=0.40)


@pytest.mark.parametrize(
    ("prompt", "cached", "completion", "cost"),
    [
        (0, 0, 0, 0),
        (1, 0, 0, 100),
        (1, 1, 0, 50),
        (0, 0, 1, 400),
        (1_000_000, 0, 0, 100_000_000),
        (10, 4, 5, 6 * 100 + 4 * 50 + 5 * 400),
        # An engine that reports more cached than there was: nothing costs less than nothing.
        (1, 5, 0, 50),
    ],
)
def test_a_turn_costs_whole_billionths(prompt: int, cached: int, completion: int, cost: int) -> None:
    usage = Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached)
    assert cost_nano_usd(usage, FAST) == cost


def test_a_price_below_a_billionth_a_token_is_rounded_once_per_turn() -> None:
    price = Price(output=0.0375)
    assert cost_nano_usd(Usage(prompt_tokens=0, completion_tokens=3), price) == 112  # 112.5, to even
    assert cost_nano_usd(Usage(prompt_tokens=0, completion_tokens=4), price) == 150


def test_a_model_that_left_the_catalogue_is_free() -> None:
    billing = Billing.of(DEFAULT_CATALOGUE, "north")
    assert billing.price_of("turnstream-fast") == FAST
    assert billing.price_of("gone") == Price()
