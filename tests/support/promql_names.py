"""What a PromQL expression asks for: the series that it names, and their labels."""

from collections.abc import Iterator
from dataclasses import dataclass

import promql_parser as promql


@dataclass(frozen=True)
class Asked:
    """One selector: the metric, the labels that it is filtered by, and ``le`` if it names a bucket."""

    metric: str
    labels: frozenset[str]
    le: str | None


def selectors(text: str) -> tuple[Asked, ...]:
    """Every selector of ``text``. Raises ValueError when it is not PromQL."""
    return tuple(_asked(node) for node in _nodes(promql.parse(text)) if isinstance(node, promql.VectorSelector))


def grouped_by(text: str) -> frozenset[str]:
    """Every label that ``text`` keeps, or matches by."""
    modifiers = (node.modifier for node in _nodes(promql.parse(text)) if isinstance(node, promql.AggregateExpr))
    return frozenset(label for modifier in modifiers if modifier is not None for label in modifier.labels)


def _asked(node: promql.VectorSelector) -> Asked:
    matchers = {matcher.name: matcher.value for matcher in node.matchers.matchers}
    return Asked(node.name or "", frozenset(matchers), matchers.get("le"))


def _nodes(node: promql.Expr) -> Iterator[promql.Expr]:
    yield node
    for inner in _inner(node):
        yield from _nodes(inner)


def _inner(node: promql.Expr) -> tuple[promql.Expr, ...]:
    match node:
        case promql.BinaryExpr():
            return (node.lhs, node.rhs)
        case promql.AggregateExpr():
            return (node.expr,)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return (node.expr,)
        case promql.MatrixSelector():
            return (node.vector_selector,)
        case promql.Call():
            return tuple(node.args)
        case promql.VectorSelector() | promql.NumberLiteral() | promql.StringLiteral():
            return ()
    raise NotImplementedError(type(node).__name__)
