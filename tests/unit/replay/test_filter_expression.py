from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.replay.expression import EXPRESSION_CHARS_MAX, Expression

SCOPE: dict[str, Any] = {
    "turn": {"model": "turnstream-fast", "stored": True, "max_tokens": 100},
    "usage": {"completion_tokens": 120},
    "categories": ["hate", "pii"],
    "headers": {"dlq-error": "bad value", "turn": "t1"},
    "prompt": {"messages": [{"role": "system"}, {"role": "user"}]},
}


@pytest.mark.parametrize(
    "text",
    [
        'turn.model == "turnstream-fast" and usage.completion_tokens > 100',
        "turn.stored",
        "turn.stored == true and turn.absent == null and not turn.absent",
        "100 < usage.completion_tokens <= 120",
        '"hate" in categories and "violence" not in categories',
        'turn.model in ("turnstream-fast", "turnstream-capable")',
        'headers["dlq-error"] != "other" and "bad" in headers["dlq-error"]',
        'prompt.messages[1].role == "user"',
        "turn.max_tokens > -1",
        "usage is not null or nothing.at.all",
    ],
)
def test_what_holds(text: str) -> None:
    assert Expression(text).matches(SCOPE)


@pytest.mark.parametrize(
    "text",
    [
        "absent > 1",
        'turn.model > 1 or 1 < "a"',
        "prompt.messages[7].role == 'user'",
        "turn.model.deeper",
        "categories in turn.model",
        "not turn.stored",
    ],
)
def test_what_does_not_hold(text: str) -> None:
    assert not Expression(text).matches(SCOPE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "turn.model ==",
        "open('x')",
        "().__class__",
        "turn.model + 1 == 2",
        "[x for x in turn]",
        "lambda: 1",
        "turn[0:1]",
        "turn[model]",
        "f'{turn}'",
        "1 if turn else 2",
        "(turn := 1)",
        "b'x' == turn",
        "turn; turn",
        "x" * (EXPRESSION_CHARS_MAX + 1),
        "not " * 60 + "turn",
        "(" * 300 + "1" + ")" * 300,
        "a\0b",
    ],
)
def test_what_is_not_understood(text: str) -> None:
    with pytest.raises(ValueError, match="filter"):
        Expression(text)


def test_the_place_is_told() -> None:
    with pytest.raises(ValueError, match="character 17"):
        Expression("turn.stored and open(1)")


def test_paths_are_the_names_that_are_asked_for() -> None:
    asked = Expression('turn.model == "a" and not (stored or headers["x"] in (true, y))').paths()
    assert set(asked) == {("turn", "model"), ("stored",), ("headers", "x"), ("y",)}


@given(st.text(max_size=60))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        expression = Expression(text)
    except ValueError:
        return
    assert isinstance(expression.matches(SCOPE), bool)


_OPERANDS = st.one_of(
    st.sampled_from(["turn.model", "usage.completion_tokens", "absent.name", "categories", "true", "null"]),
    st.integers(-5, 200).map(str),
    st.sampled_from(["'hate'", "'turnstream-fast'"]),
)
_FILTERS = st.recursive(
    st.tuples(_OPERANDS, st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in"]), _OPERANDS).map(" ".join),
    lambda inner: st.one_of(
        inner.map("not ({})".format),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map("({0[0]}) {0[1]} ({0[2]})".format),
    ),
    max_leaves=6,
)


@given(_FILTERS)
def test_a_filter_and_its_negation_disagree(text: str) -> None:
    assert Expression(text).matches(SCOPE) is not Expression(f"not ({text})").matches(SCOPE)


@given(_FILTERS, _FILTERS)
def test_and_and_or_are_those_of_logic(left: str, right: str) -> None:
    holds = [Expression(text).matches(SCOPE) for text in (left, right)]
    assert Expression(f"({left}) and ({right})").matches(SCOPE) is all(holds)
    assert Expression(f"({left}) or ({right})").matches(SCOPE) is any(holds)
