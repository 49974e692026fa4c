"""Values of PromQL expressions over series in a steady state: what the rules of ``infra`` use, and no more.

A counter is given by its rate per second and a gauge by its value, so that a rate is exact over every window. What
Prometheus does with scrapes, staleness and ``for`` is not modelled.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import promql_parser as promql

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
Value = float | Vector

NOW_S: Final = 1_795_000_000.0
_ARITHMETIC: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    # As Prometheus: nothing by nothing is no number, which no comparison holds for.
    "/": lambda left, right: left / right if right else float("nan"),
}
_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">": lambda left, right: left > right,
    "<": lambda left, right: left < right,
    "==": lambda left, right: left == right,
}
_AGGREGATES: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {"sum": sum, "max": max, "min": min}
_PER_SECOND: Final = frozenset({"rate", "deriv"})


def labels(**values: str) -> Labels:
    """The labels of a series."""
    return frozenset(values.items())


@dataclass
class World:
    """Series: by name, labels and value; of a counter the value is its rate. ``grows``: rates of gauges."""

    series: dict[str, Vector] = field(default_factory=dict)
    grows: dict[str, Vector] = field(default_factory=dict)
    recorded: Mapping[str, str] = field(default_factory=dict)

    def put(self, name: str, value: float, **values: str) -> None:
        """Set one series."""
        self.series.setdefault(name, {})[labels(**values)] = value

    def value(self, text: str) -> Value:
        """What ``text`` gives. Raises NotImplementedError for what no rule of ours uses."""
        return self._value(promql.parse(text))

    def _value(self, node: promql.Expr) -> Value:
        match node:
            case promql.ParenExpr():
                return self._value(node.expr)
            case promql.NumberLiteral():
                return float(node.val)
            case promql.VectorSelector():
                return self._select(node, self.series)
            case promql.AggregateExpr():
                return self._aggregate(node)
            case promql.BinaryExpr():
                return _binary(str(node.op), self._value(node.lhs), self._value(node.rhs))
            case promql.Call():
                return self._call(node.func.name, node.args)
        raise NotImplementedError(str(node))

    def _select(self, node: promql.VectorSelector, series: Mapping[str, Vector]) -> Vector:
        name = node.name or ""
        if name in self.recorded:
            found = self.value(self.recorded[name])
            return found if isinstance(found, dict) else {frozenset(): found}
        return {
            place: value
            for place, value in series.get(name, {}).items()
            if all(_matches(matcher, dict(place).get(matcher.name, "")) for matcher in node.matchers.matchers)
        }

    def _aggregate(self, node: promql.AggregateExpr) -> Vector:
        inner = self._value(node.expr)
        kept = set(node.modifier.labels) if node.modifier is not None else set()
        groups: dict[Labels, list[float]] = {}
        for place, value in (inner if isinstance(inner, dict) else {frozenset(): inner}).items():
            groups.setdefault(frozenset(each for each in place if each[0] in kept), []).append(value)
        return {place: _AGGREGATES[str(node.op)](values) for place, values in groups.items()}

    def _call(self, name: str, args: Sequence[promql.Expr]) -> Value:
        if name == "time":
            return NOW_S
        if name == "vector":
            value = self._value(args[0])
            return {frozenset(): value} if not isinstance(value, dict) else value
        if name == "histogram_quantile":
            return _quantiles(self._value(args[0]), self._value(args[1]))
        matrix = args[0]
        if not isinstance(matrix, promql.MatrixSelector):
            raise NotImplementedError(name)
        selected = self._select(matrix.vector_selector, self.grows if name == "deriv" else self.series)
        if name in _PER_SECOND:
            return selected
        if name == "increase":
            return {place: value * matrix.range.total_seconds() for place, value in selected.items()}
        if name == "predict_linear":
            ahead_s, grows = self._value(args[1]), self._select(matrix.vector_selector, self.grows)
            if isinstance(ahead_s, dict):
                raise NotImplementedError(name)
            return {place: value + ahead_s * grows.get(place, 0.0) for place, value in selected.items()}
        raise NotImplementedError(name)


def _matches(matcher: promql.Matcher, value: str) -> bool:
    match matcher.op:
        case promql.MatchOp.Equal:
            return value == matcher.value
        case promql.MatchOp.NotEqual:
            return value != matcher.value
        case promql.MatchOp.Re:
            return re.fullmatch(matcher.value, value) is not None
    raise NotImplementedError(str(matcher.op))


def _binary(operator: str, left: Value, right: Value) -> Value:
    if operator in {"and", "or"} and isinstance(left, dict) and isinstance(right, dict):
        return {place: left[place] for place in left if place in right} if operator == "and" else {**right, **left}
    if operator in _COMPARISONS and isinstance(left, dict):
        return {
            place: value
            for place, value in left.items()
            if (other := _at(right, place)) is not None and _COMPARISONS[operator](value, other)
        }
    calculate = _ARITHMETIC[operator]
    if isinstance(left, dict):
        pairs = ((place, value, _at(right, place)) for place, value in left.items())
        return {place: calculate(value, other) for place, value, other in pairs if other is not None}
    if isinstance(right, dict):
        return {place: calculate(left, value) for place, value in right.items()}
    return calculate(left, right)


def _at(value: Value, place: Labels) -> float | None:
    return value.get(place) if isinstance(value, dict) else value


def _quantiles(quantile: Value, buckets: Value) -> Vector:
    """Prometheus' own interpolation inside a bucket; the lowest begins at 0."""
    if isinstance(quantile, dict) or not isinstance(buckets, dict):
        raise NotImplementedError("histogram_quantile")
    groups: dict[Labels, list[tuple[float, float]]] = {}
    for place, rate in buckets.items():
        rest = frozenset(each for each in place if each[0] != "le")
        groups.setdefault(rest, []).append((float(dict(place)["le"]), rate))
    return {place: _quantile(quantile, sorted(found)) for place, found in groups.items()}


def _quantile(quantile: float, buckets: Sequence[tuple[float, float]]) -> float:
    wanted, below, low = quantile * buckets[-1][1], 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted and count > below:
            return low if bound == float("inf") else low + (bound - low) * (wanted - below) / (count - below)
        below, low = count, bound
    return float("nan")
