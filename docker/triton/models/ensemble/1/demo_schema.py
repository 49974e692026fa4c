"""JSON that a schema allows, with values taken from what somebody wrote where types and names match. Pure.

It knows the part of JSON Schema that tools and response formats use: types, properties, required, items, enum,
const, references, anyOf/oneOf/allOf, bounds of numbers, lengths and the common formats of strings. Not ``pattern``.
Standard library alone.
"""

# ruff: noqa: INP001  # the folder names are Triton's
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

DEPTH_MAX: Final = 12
TEXT_CHARS_MAX: Final = 280
ITEMS_MAX: Final = 16
_NUMBER: Final = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?!\w)")
_QUOTED: Final = re.compile(
    r"""(?<!\w)'([^'\n]{1,200})'(?!\w)|"([^"\n]{1,200})"|“([^”\n]{1,200})”|«([^»\n]{1,200})»|「([^」\n]{1,200})」"""
)
_PLACED: Final = re.compile(
    r"\b(?:in|at|for|from|to|of|named|called|about|near)\s+"
    r"((?!(?:The|A|An|My|I|It|This|That)\b)[A-Z][\w.'-]*(?:,?\s+[A-Z][\w.'-]*)*)"
)
_ABOUT: Final = re.compile(r"\b(?:about|for|in|of|on|named|called)\s+([^?.!,;:\n]{1,80})")
_NEGATED: Final = re.compile(r"\b(?:no|not|without|disable|disabled|false|off|never)\b", re.IGNORECASE)
_KEY: Final = re.compile(r"""[`'"]([A-Za-z_]\w{0,40})[`'"]""")
_WHOLE_TEXT: Final = {"query", "text", "question", "input", "message", "prompt", "content", "search", "request"}
_FORMATS: Final = {
    "date": (re.compile(r"\b\d{4}-\d\d-\d\d\b"), "2026-01-01"),
    "date-time": (re.compile(r"\b\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)"), "2026-01-01T00:00:00Z"),
    "time": (re.compile(r"\b\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)"), "12:00:00Z"),
    "email": (re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "someone@example.com"),
    "uri": (re.compile(r"\bhttps?://[^\s<>\"']+"), "https://example.com/"),
    "url": (re.compile(r"\bhttps?://[^\s<>\"']+"), "https://example.com/"),
    "uuid": (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "00000000-0000-4000-8000-000000000000"),
    "ipv4": (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"), "127.0.0.1"),
}


@dataclass
class Said:
    """What somebody wrote, with the values in it that are not used yet."""

    text: str
    root: Mapping[str, Any] = field(default_factory=dict)
    numbers: list[float] = field(default_factory=list)
    quoted: list[str] = field(default_factory=list)
    placed: list[str] = field(default_factory=list)


def find(text: str, schema: Mapping[str, Any]) -> Said:
    """The values in ``text``; names of the schema's own fields are none."""
    names = set(_names(schema))
    quoted = ["".join(groups) for groups in _QUOTED.findall(text)]
    return Said(
        text=text,
        root=schema,
        numbers=[float(number) for number in _NUMBER.findall(text)],
        quoted=[one for one in quoted if one not in names],
        placed=[one.rstrip(".") for one in _PLACED.findall(text)],
    )


def fill(schema: Mapping[str, Any], text: str) -> Any:
    """A value that ``schema`` allows, from ``text``."""
    return _value(schema, "", find(text, schema), 0)


def keyed_object(text: str, answer: str) -> dict[str, str]:
    """An object with the keys that ``text`` names in quotes, or with the one key ``answer``."""
    keys = list(dict.fromkeys(_KEY.findall(text)))
    about = _shorten(text)
    return dict.fromkeys(keys, about) if keys else {"answer": answer}


def numbers_in(text: str) -> int:
    """How many numbers there are."""
    return len(_NUMBER.findall(text))


def resolve(schema: Any, root: Mapping[str, Any], depth: int = 0) -> Mapping[str, Any]:
    """The schema without references and alternatives at its top: the first alternative that is not null."""
    if not isinstance(schema, Mapping) or depth > DEPTH_MAX:
        return {}
    reference = schema.get("$ref")
    if isinstance(reference, str):
        target: Any = root
        for part in reference.removeprefix("#/").split("/") if reference != "#" else ():
            target = target.get(part, {}) if isinstance(target, Mapping) else {}
        return resolve(target, root, depth + 1)
    for key in ("anyOf", "oneOf"):
        options = [resolve(one, root, depth + 1) for one in schema.get(key) or ()]
        chosen = next((one for one in options if one.get("type") != "null"), None)
        if chosen is not None:
            return {**schema, key: None, **chosen}
    merged = {**schema, "allOf": None}
    for part in schema.get("allOf") or ():
        more = resolve(part, root, depth + 1)
        properties = {**(merged.get("properties") or {}), **(more.get("properties") or {})}
        required = [*(merged.get("required") or ()), *(more.get("required") or ())]
        merged = {**merged, **more, "properties": properties, "required": required}
    return merged


def _value(schema: Any, name: str, said: Said, depth: int) -> Any:
    plain = resolve(schema, said.root)
    if "const" in plain:
        return plain["const"]
    if plain.get("enum"):
        return _one_of(plain, said)
    kind = _kind(plain)
    if depth > DEPTH_MAX or kind == "null":
        return None
    if kind == "object":
        return _object(plain, said, depth)
    if kind == "array":
        return _array(plain, name, said, depth)
    if kind == "boolean":
        return not _NEGATED.search(said.text)
    if kind in {"integer", "number"}:
        return _number(plain, said, whole=kind == "integer")
    return _string(plain, name, said)


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    return "object" if schema.get("properties") else "array" if schema.get("items") else "string"


def _object(schema: Mapping[str, Any], said: Said, depth: int) -> dict[str, Any]:
    required = set(schema.get("required") or ())
    made = {}
    for name, part in (schema.get("properties") or {}).items():
        if name in required or _suggested(part, name, said):
            made[name] = _value(part, name, said, depth + 1)
    return made


def _suggested(schema: Any, name: str, said: Said) -> bool:
    """Whether what was written has something for a field that may be left out."""
    plain = resolve(schema, said.root)
    if plain.get("enum"):
        return any(isinstance(one, str) and one.lower() in said.text.lower() for one in plain["enum"])
    mentioned = any(part in said.text.lower() for part in name.lower().split("_") if len(part) > 3)  # noqa: PLR2004
    return mentioned and _kind(plain) in {"integer", "number"} and bool(said.numbers)


def _array(schema: Mapping[str, Any], name: str, said: Said, depth: int) -> list[Any]:
    items = schema.get("items") or {}
    kind = _kind(resolve(items, said.root))
    found = {"integer": said.numbers, "number": said.numbers, "string": said.quoted}.get(kind, [])
    wanted = max(int(schema.get("minItems") or 0), len(found), 1)
    count = min(wanted, int(schema.get("maxItems") or ITEMS_MAX), ITEMS_MAX)
    return [_value(items, name, said, depth + 1) for _ in range(count)]


def _one_of(schema: Mapping[str, Any], said: Said) -> Any:
    lowered = said.text.lower()
    mentioned = [one for one in schema["enum"] if isinstance(one, str) and one.lower() in lowered]
    numbers = [one for one in schema["enum"] if isinstance(one, int | float) and float(one) in said.numbers]
    return next(iter([*sorted(mentioned, key=len, reverse=True), *numbers]), schema.get("default", schema["enum"][0]))


def _number(schema: Mapping[str, Any], said: Said, *, whole: bool) -> float:
    fits = [one for one in said.numbers if not whole or one.is_integer()]
    default = schema.get("default")
    if fits:
        number = fits[0]
        said.numbers.remove(number)
    else:
        number = float(default) if isinstance(default, int | float) else 1.0
    low, high = schema.get("minimum"), schema.get("maximum")
    if isinstance(schema.get("exclusiveMinimum"), int | float):
        low = schema["exclusiveMinimum"] + 1
    if isinstance(schema.get("exclusiveMaximum"), int | float):
        high = schema["exclusiveMaximum"] - 1
    number = number if low is None else max(number, low)
    number = number if high is None else min(number, high)
    step = schema.get("multipleOf")
    if isinstance(step, int | float) and step > 0:
        number = round(number / step) * step
        # Rounded away from a bound, it comes back by one step.
        if high is not None and number > high:
            number -= step
        elif low is not None and number < low:
            number += step
    return int(number) if whole or float(number).is_integer() else number


def _string(schema: Mapping[str, Any], name: str, said: Said) -> str:
    known = _FORMATS.get(str(schema.get("format") or name.lower()))
    if known is not None:
        found = known[0].search(said.text)
        return found.group() if found else known[1]
    text = _phrase(name, said)
    short, long = int(schema.get("minLength") or 0), schema.get("maxLength")
    text = text.ljust(short, ".")
    return text if long is None else text[: int(long)]


def _phrase(name: str, said: Said) -> str:
    words = set(name.lower().split("_"))
    if said.quoted:
        return said.quoted.pop(0)
    if words & _WHOLE_TEXT:
        return _shorten(said.text)
    if said.placed:
        return said.placed.pop(0) if len(said.placed) > 1 else said.placed[0]
    about = _ABOUT.search(said.text)
    return about[1].strip() if about else _shorten(said.text)


def _names(schema: Any, depth: int = 0) -> list[str]:
    if not isinstance(schema, Mapping) or depth > DEPTH_MAX:
        return []
    properties = schema.get("properties")
    names = list(properties) if isinstance(properties, Mapping) else []
    for part in properties.values() if isinstance(properties, Mapping) else ():
        names += _names(part, depth + 1)
    return names


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TEXT_CHARS_MAX else line[: TEXT_CHARS_MAX - 1].rstrip() + "…"
