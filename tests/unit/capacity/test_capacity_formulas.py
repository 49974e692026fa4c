"""Formulas are text that is computed as it is shown, and nothing else than arithmetic."""

import pytest

from turnstream.capacity.formula import evaluate, names_in

FIGURES = {"a": 6.0, "b": 4.0, "none": 0.0}


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("a + b * 2", 14.0),
        ("(a - b) / 4", 0.5),
        ("ceil(a / b)", 2.0),
        ("floor(a / b)", 1.0),
        ("max(a, b, 5) + min(a, b)", 10.0),
        ("1e6 / a", 1e6 / 6),
    ],
)
def test_it_is_arithmetic(formula: str, value: float) -> None:
    assert evaluate(formula, FIGURES) == pytest.approx(value)


def test_a_binary_fraction_buys_no_machine() -> None:
    assert evaluate("ceil(0.1 * 3 / 0.1)", {}) == 3
    assert evaluate("floor(0.7 / 0.1)", {}) == 7


@pytest.mark.parametrize(
    ("formula", "told"),
    [
        ("a / none", "divides by zero"),
        ("a + unknown", "'unknown'"),
        ("__import__('os')", "cannot hold"),
        ("a ** b", "cannot hold"),
        ("a.real", "cannot hold"),
        ("max(a, key=b)", "cannot hold"),
        ("'text'", "cannot hold"),
        ("a +", "no formula"),
    ],
)
def test_anything_else_is_refused(formula: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        evaluate(formula, FIGURES)


def test_it_names_its_inputs_in_their_order() -> None:
    assert names_in("max(b, ceil(a * b / c))") == ("b", "a", "c")
