"""Formulas of the plan: arithmetic over named figures, kept as text so that what is shown is what is computed."""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

_OPERATORS: Final[dict[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
# Binary fractions put 12.000000000000002 where arithmetic on paper has 12: no machine is bought for that.
_ROUNDING: Final = 1e-9


def _ceil(value: float) -> float:
    return math.ceil(value - _ROUNDING * max(1.0, abs(value)))


def _floor(value: float) -> float:
    return math.floor(value + _ROUNDING * max(1.0, abs(value)))


_FUNCTIONS: Final[dict[str, Callable[..., float]]] = {"ceil": _ceil, "floor": _floor, "max": max, "min": min}


def names_in(formula: str) -> tuple[str, ...]:
    """The figures that ``formula`` reads, in the order in which they first appear. Raises ValueError for no formula."""
    found = (
        node.id
        for node in sorted(ast.walk(_parsed(formula)), key=lambda node: getattr(node, "col_offset", -1))
        if isinstance(node, ast.Name) and node.id not in _FUNCTIONS
    )
    return tuple(dict.fromkeys(found))


def evaluate(formula: str, figures: Mapping[str, float]) -> float:
    """The value of ``formula``: numbers, names of ``figures``, ``+ - * /``, parentheses, ceil, floor, max and min.

    Raises ValueError for anything else, for a division by zero and for a name that ``figures`` lacks.
    """
    try:
        return _value(_parsed(formula), figures)
    except ZeroDivisionError:
        raise ValueError(f"{formula!r} divides by zero") from None
    except KeyError as error:
        raise ValueError(f"{formula!r} needs {error.args[0]!r}, which no figure gives") from None


@lru_cache(maxsize=512)
def _parsed(formula: str) -> ast.expr:
    try:
        return ast.parse(formula, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{formula!r} is no formula: {error.msg}") from None


def _value(node: ast.expr, figures: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return figures[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, figures), _value(right, figures))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return float(_FUNCTIONS[name](*(_value(each, figures) for each in args)))
        case _:
            raise ValueError(f"a formula cannot hold {ast.unparse(node)!r}")
