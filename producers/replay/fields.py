"""Which names a filter may ask of a topic's records: those of its schema. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

from schemas import serde
from schemas.topics import Topic

HEADERS: Final = "headers"
RECORD: Final = "record"
RECORD_FIELDS: Final = ("partition", "offset", "timestamp_ms", "key")


def check_path(topic: Topic, path: Sequence[str | int]) -> None:
    """Raise ValueError for a name that no record of ``topic`` can have."""
    first, *rest = path
    if first == HEADERS:
        return
    if first == RECORD:
        if list(rest[:1]) and rest[0] in RECORD_FIELDS:
            return
        raise ValueError(f"record has the fields {', '.join(RECORD_FIELDS)}")
    schema = _schema(topic)
    here: list[Mapping[str, Any]] = list(_alternatives(schema, schema))
    for depth, part in enumerate(path):
        below = [found for one in here for found in _step(schema, one, part)]
        if not below:
            known = sorted({name for one in here for name in one.get("properties", {})})
            where = ".".join(map(str, path[:depth])) or topic.name
            raise ValueError(f"{where} has no field {part}; it has {', '.join(known) or 'none'}")
        here = below


@cache
def _schema(topic: Topic) -> Mapping[str, Any]:
    return serde.adapter(topic).json_schema()


def _step(schema: Mapping[str, Any], one: Mapping[str, Any], part: str | int) -> Iterator[Mapping[str, Any]]:
    if isinstance(part, int):
        yield from _alternatives(schema, one.get("items", {}))
        return
    properties = one.get("properties", {})
    if part in properties:
        yield from _alternatives(schema, properties[part])
    elif isinstance(others := one.get("additionalProperties"), Mapping):
        yield from _alternatives(schema, others)


def _alternatives(schema: Mapping[str, Any], one: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if (name := one.get("$ref")) is not None:
        yield from _alternatives(schema, schema["$defs"][name.rpartition("/")[2]])
        return
    choices = [choice for word in ("anyOf", "oneOf", "allOf") for choice in one.get(word, ())]
    if not choices:
        yield one
    for choice in choices:
        yield from _alternatives(schema, choice)
