"""Whether two processes, one on the committed contract and one on the present models, still understand each other.

A change breaks if an old record cannot be read any more, or an old reader misses a field it was promised.
Only additive, optional fields are free. New kinds of values (an enum value, an event of a union) are possible
but must reach every reader before the first writer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from turnstream.contract_docs.json_schemas import Schema, definition_name, resolve

# Keyword -> whether a larger value allows less.
_BOUNDS: Final = {
    "minimum": True,
    "exclusiveMinimum": True,
    "minLength": True,
    "minItems": True,
    "maximum": False,
    "exclusiveMaximum": False,
    "maxLength": False,
    "maxItems": False,
}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference at ``path`` (dots between fields, ``[]`` for list items)."""

    path: str
    what: str
    breaking: bool

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def changes(old: Schema, new: Schema) -> tuple[Change, ...]:
    """What a reader would notice between two schemas of one topic; free changes are not listed."""
    return tuple(dict.fromkeys(_Comparison(old, new).compare(old, new, "", frozenset())))


@dataclass(frozen=True, slots=True)
class _Comparison:
    old_root: Schema
    new_root: Schema

    def compare(self, old: Schema, new: Schema, path: str, seen: frozenset[str]) -> Iterator[Change]:
        """Walk both schemas side by side; ``seen`` holds the definitions above, so recursion ends."""
        olds, news = _variants(self.old_root, old), _variants(self.new_root, new)
        for label in olds.keys() - news.keys():
            yield Change(path or "value", f"no longer allows {label}", breaking=True)
        for label in news.keys() - olds.keys():
            yield Change(path or "value", f"newly allows {label}: readers first", breaking=False)
        for label in sorted(olds.keys() & news.keys()):
            if label not in seen:
                inner = f"{path}<{label}>" if len(olds) > 1 and not path else path
                above = seen | {label} if "properties" in olds[label] else seen
                yield from self._one(olds[label], news[label], inner, above)

    def _one(self, old: Schema, new: Schema, path: str, seen: frozenset[str]) -> Iterator[Change]:
        yield from _bounds(old, new, path)
        yield from _values(old, new, path)
        yield from self._fields(old, new, path, seen)
        if "items" in old and "items" in new:
            yield from self.compare(old["items"], new["items"], f"{path}[]", seen)

    def _fields(self, old: Schema, new: Schema, path: str, seen: frozenset[str]) -> Iterator[Change]:
        olds, news = old.get("properties", {}), new.get("properties", {})
        was, now = set(old.get("required", ())), set(new.get("required", ()))
        for name in sorted(olds.keys() | news.keys()):
            where = f"{path}.{name}" if path else name
            if name not in news:
                yield Change(where, "field removed", breaking=True)
            elif name in now - was:
                what = "newly required" if name in olds else "new field is required"
                yield Change(where, f"{what}: old records lack it", breaking=True)
            elif name in was - now:
                yield Change(where, "no longer required: old readers rely on it", breaking=True)
            if name in olds and name in news:
                yield from self.compare(olds[name], news[name], where, seen)


def _variants(root: Schema, schema: Schema) -> dict[str, Schema]:
    """The kinds of value that ``schema`` allows, by a label that survives a change of their insides."""
    if (alternatives := schema.get("anyOf") or schema.get("oneOf")) is not None:
        return {label: found for each in alternatives for label, found in _variants(root, each).items()}
    resolved = resolve(root, schema)
    if "$ref" in schema and "properties" in resolved:
        return {definition_name(schema["$ref"]): resolved}
    if "properties" in resolved:
        return {"object": resolved}
    return {str(resolved.get("type", "any")): resolved}


def _bounds(old: Schema, new: Schema, path: str) -> Iterator[Change]:
    for keyword, larger_is_narrower in _BOUNDS.items():
        before, after = old.get(keyword), new.get(keyword)
        if before == after:
            continue
        if before is None or (after is not None and (after > before) == larger_is_narrower):
            yield Change(path, f"{keyword} narrowed from {before} to {after}", breaking=True)
        else:
            yield Change(path, f"{keyword} widened from {before} to {after}: readers first", breaking=False)
    if old.get("pattern") != new.get("pattern"):
        yield Change(path, "pattern changed", breaking=True)


def _values(old: Schema, new: Schema, path: str) -> Iterator[Change]:
    before, after = _allowed(old), _allowed(new)
    if after is not None and (before is None or before - after):
        gone = "any other value" if before is None else ", ".join(sorted(map(str, before - after)))
        yield Change(path, f"no longer allows {gone}", breaking=True)
    elif before is not None and after != before:
        added = "any value" if after is None else ", ".join(sorted(map(str, after - before)))
        yield Change(path, f"newly allows {added}: readers first", breaking=False)


def _allowed(schema: Schema) -> frozenset[Any] | None:
    """The listed values, or None when every value of the type is allowed."""
    if "const" in schema:
        return frozenset((schema["const"],))
    return frozenset(schema["enum"]) if "enum" in schema else None
