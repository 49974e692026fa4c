"""A small filter language over one record, read with Python's own parser and nothing of it executed. Pure.

Names with dots (``turn.model``), literals, ``== != < <= > >= in not in``, ``and or not`` and brackets; a part that is
no name goes in square brackets (``headers["dlq-error"]``, ``prompt.messages[0].role``). What a record does not have is
``null``; an order between things that have none is false. There are no calls, no arithmetic and no loops.
"""

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

EXPRESSION_CHARS_MAX: Final = 1_000
EXPRESSION_DEPTH_MAX: Final = 40

Scope = Mapping[str, Any]
Evaluate = Callable[[Scope], Any]

_ABSENT: Final = None
_WORDS: Final = {"true": True, "false": False, "null": None}
_ORDERS: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_SAMENESS: Final[Mapping[type[ast.cmpop], bool]] = {
    ast.Eq: True,
    ast.NotEq: False,
    ast.Is: True,
    ast.IsNot: False,
}
_MEMBERSHIP: Final[Mapping[type[ast.cmpop], bool]] = {ast.In: True, ast.NotIn: False}


class Expression:
    """A filter that was understood. Raises ValueError, naming the place, for one that was not."""

    def __init__(self, text: str) -> None:
        self._tree = _parse(text)
        self._evaluate = _compiled(self._tree, 0)

    def matches(self, scope: Scope) -> bool:
        """Whether the filter is true of what ``scope`` has by name. Never raises."""
        return bool(self._evaluate(scope))

    def paths(self) -> Iterator[tuple[str | int, ...]]:
        """The names that it asks for, part by part: ``turn.model`` is ``("turn", "model")``."""
        yield from _paths(self._tree)


def _parse(text: str) -> ast.expr:
    if len(text) > EXPRESSION_CHARS_MAX:
        raise ValueError(f"a filter has at most {EXPRESSION_CHARS_MAX} characters")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"the filter is malformed at character {error.offset or len(text) + 1}") from None
    except (RecursionError, MemoryError, ValueError):
        raise ValueError("the filter is nested too deeply, or has characters that cannot be") from None


def _refuse(node: ast.expr, what: str) -> ValueError:
    return ValueError(f"the filter is malformed at character {node.col_offset + 1}: {what}")


def _compiled(node: ast.expr, depth: int) -> Evaluate:
    if depth > EXPRESSION_DEPTH_MAX:
        raise _refuse(node, f"more than {EXPRESSION_DEPTH_MAX} levels")
    match node:
        case ast.BoolOp(op=op, values=values):
            return _either([_compiled(value, depth + 1) for value in values], every=isinstance(op, ast.And))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _compiled(operand, depth + 1)
            return lambda scope: not inner(scope)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return _constant(-number)
        case ast.Compare():
            return _comparison(node, depth)
        case ast.Constant(value=str() | int() | float() | bool() | None):
            return _constant(node.value)
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            parts = [_compiled(element, depth + 1) for element in elements]
            return lambda scope: [part(scope) for part in parts]
        case ast.Name() | ast.Attribute() | ast.Subscript():
            return _reference(node)
        case _:
            raise _refuse(node, "only names, literals, comparisons, and, or, not and in are understood")


def _constant(value: object) -> Evaluate:
    return lambda _scope: value


def _either(parts: list[Evaluate], *, every: bool) -> Evaluate:
    decide = all if every else any
    return lambda scope: decide(part(scope) for part in parts)


def _comparison(node: ast.Compare, depth: int) -> Evaluate:
    operands = [_compiled(operand, depth + 1) for operand in (node.left, *node.comparators)]
    kinds = [type(op) for op in node.ops]

    def holds(scope: Scope) -> bool:
        values = [operand(scope) for operand in operands]
        return all(_holds(kind, *pair) for kind, *pair in zip(kinds, values, values[1:], strict=False))

    return holds


def _holds(kind: type[ast.cmpop], left: Any, right: Any) -> bool:
    if kind in _SAMENESS:
        return (left == right) is _SAMENESS[kind]
    if kind in _MEMBERSHIP:
        return _contains(right, left) is _MEMBERSHIP[kind]
    try:
        return bool(_ORDERS[kind](left, right))
    except TypeError:
        return False


def _contains(container: Any, value: Any) -> bool:
    if isinstance(container, str):
        return isinstance(value, str) and value in container
    return isinstance(container, list | tuple | Mapping) and value in container


def _reference(node: ast.expr) -> Evaluate:
    path = _path(node)
    if len(path) == 1 and path[0] in _WORDS:
        return _constant(_WORDS[str(path[0])])
    return lambda scope: _look_up(scope, path)


def _look_up(scope: Scope, path: tuple[str | int, ...]) -> Any:
    found: Any = scope
    for part in path:
        if isinstance(found, Mapping):
            found = found.get(part, _ABSENT)
        elif isinstance(found, list) and isinstance(part, int) and -len(found) <= part < len(found):
            found = found[part]
        else:
            return _ABSENT
    return found


def _path(node: ast.expr) -> tuple[str | int, ...]:
    match node:
        case ast.Name(id=name):
            return (name,)
        case ast.Attribute(value=value, attr=name):
            return (*_path(value), name)
        case ast.Subscript(value=value, slice=ast.Constant(value=str() | int() as part)):
            return (*_path(value), part)
        case _:
            raise _refuse(node, "a name is expected here")


def _paths(node: ast.AST) -> Iterator[tuple[str | int, ...]]:
    if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
        path = _path(node)
        if len(path) > 1 or path[0] not in _WORDS:
            yield path
        return
    for child in ast.iter_child_nodes(node):
        yield from _paths(child)
