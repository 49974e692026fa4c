"""A JSON Schema in a few words, for a table cell."""

from collections.abc import Mapping
from typing import Final

from turnstream.contract_docs.json_schemas import Schema, definition_name

_BOUND_WORDS: Final = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "above {}"),
    ("maximum", "at most {}"),
    ("minItems", "at least {} items"),
    ("maxItems", "at most {} items"),
    ("maxLength", "at most {} characters"),
    ("pattern", "`{}`"),
)


def type_words(schema: Schema) -> str:
    """The type of a value with its bounds; null is left out, since null is never written."""
    if (alternatives := schema.get("anyOf")) is not None:
        return " or ".join(type_words(each) for each in alternatives if each.get("type") != "null")
    if "$ref" in schema:
        name = definition_name(schema["$ref"])
        return f"[{name}](#{name.lower()})"
    return ", ".join((_kind(schema), *_bounds(schema)))


def meaning_words(schema: Schema, parts: Mapping[str, Schema]) -> str:
    """The description of a field on one line of Markdown, or that of the part which is its type."""
    described = schema if "description" in schema else parts.get(definition_name(schema.get("$ref", "")), {})
    text = " ".join(str(described.get("description", "")).split())
    return text.replace("``", "`").replace("|", "\\|")


def _kind(schema: Schema) -> str:
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("x-pii"):
        return "string (*content*)"
    if schema.get("type") == "array":
        return f"list of {type_words(schema['items'])}"
    return str(schema.get("type", "any"))


def _bounds(schema: Schema) -> tuple[str, ...]:
    return tuple(words.format(schema[keyword]) for keyword, words in _BOUND_WORDS if keyword in schema)
