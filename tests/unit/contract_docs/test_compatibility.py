"""Which changes of a model break somebody who runs the version before."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, create_model

from schemas import topics
from schemas.topics import ALL_TOPICS, Topic
from turnstream.contract_docs.compatibility import Change, changes
from turnstream.contract_docs.json_schemas import Schema, topic_schema


class Part(BaseModel):
    size: int = Field(ge=0, le=10)


BASE: dict[str, Any] = {
    "turn_id": (str, ...),
    "note": (str | None, None),
    "count": (int, Field(ge=1, le=100)),
    "state": (Literal["open", "closed"], ...),
    "parts": (tuple[Part, ...], Field(min_length=1)),
    "code": (str, Field(pattern="^[a-z]+$", max_length=8)),
}


def schema(fields: dict[str, Any]) -> Schema:
    model = create_model("Thing", **fields)
    generated = model.model_json_schema(ref_template="#/definitions/{model}")
    return {**generated, "definitions": generated.pop("$defs", {})}


def between(**fields: Any) -> tuple[Change, ...]:
    """The changes from BASE to BASE with ``fields`` replaced, or removed where they are None."""
    merged = {name: field for name, field in (BASE | fields).items() if field is not None}
    return changes(schema(BASE), schema(merged))


class WiderPart(BaseModel):
    size: int = Field(ge=0, le=20)


class NarrowerPart(BaseModel):
    size: int = Field(ge=0, le=5)


class OtherPart(BaseModel):
    length: int


def as_part(model: type[BaseModel]) -> Any:
    """A list of ``model`` under the name that the schema before knew."""
    return (tuple[type("Part", (model,), {}), ...], Field(min_length=1))  # type: ignore[misc]  # made at run time


@pytest.mark.parametrize(
    ("fields", "path", "what"),
    [
        ({"note": None}, "note", "field removed"),
        ({"added": (str, ...)}, "added", "new field is required"),
        ({"note": (str, ...)}, "note", "newly required"),
        ({"turn_id": (str, "x")}, "turn_id", "no longer required"),
        ({"turn_id": (int, ...)}, "turn_id", "no longer allows string"),
        ({"note": (str, "")}, "note", "no longer allows null"),
        ({"state": (Literal["open"], ...)}, "state", "no longer allows closed"),
        ({"turn_id": (Literal["a"], ...)}, "turn_id", "no longer allows any other value"),
        ({"count": (int, Field(ge=2, le=100))}, "count", "minimum narrowed from 1 to 2"),
        ({"count": (int, Field(ge=1, le=99))}, "count", "maximum narrowed from 100 to 99"),
        ({"code": (str, Field(pattern="^[a-f]+$", max_length=8))}, "code", "pattern changed"),
        ({"code": (str, Field(pattern="^[a-z]+$", max_length=7))}, "code", "maxLength narrowed from 8 to 7"),
        ({"parts": (tuple[Part, ...], Field(min_length=2))}, "parts", "minItems narrowed from 1 to 2"),
        ({"parts": (tuple[str, ...], Field(min_length=1))}, "parts[]", "no longer allows Part"),
        ({"parts": as_part(NarrowerPart)}, "parts[].size", "maximum narrowed from 10 to 5"),
        ({"parts": as_part(OtherPart)}, "parts[].size", "field removed"),
    ],
)
def test_a_breaking_change_is_named(fields: dict[str, Any], path: str, what: str) -> None:
    broken = [change for change in between(**fields) if change.breaking]
    assert any(change.path == path and change.what.startswith(what) for change in broken), broken


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"added": (str | None, None)},
        {"added": (int, 0)},
        {"note": (str | None, Field(default=None, description="Now described."))},
    ],
    ids=["nothing", "optional nullable field", "optional field with a default", "description"],
)
def test_an_additive_optional_change_is_free(fields: dict[str, Any]) -> None:
    assert between(**fields) == ()


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"state": (Literal["open", "closed", "held"], ...)}, "newly allows held"),
        ({"turn_id": (str | int, ...)}, "newly allows integer"),
        ({"count": (int, Field(ge=0, le=100))}, "minimum widened from 1 to 0"),
        ({"count": (int, Field(ge=1))}, "maximum widened from 100 to None"),
        ({"parts": as_part(WiderPart)}, "maximum widened from 10 to 20"),
    ],
)
def test_a_widened_value_wants_readers_first_and_breaks_nothing(fields: dict[str, Any], what: str) -> None:
    found = between(**fields)
    assert [change.breaking for change in found] == [False]
    assert found[0].what.startswith(what)


@pytest.mark.parametrize("topic", ALL_TOPICS, ids=lambda topic: topic.name)
def test_a_topic_is_compatible_with_itself(topic: Topic) -> None:
    assert changes(topic_schema(topic), topic_schema(topic)) == ()


def test_an_event_taken_out_of_the_union_breaks_and_a_new_one_wants_readers_first() -> None:
    full = topic_schema(topics.TOKENS)
    without = full | {"oneOf": [member for member in full["oneOf"] if not member["$ref"].endswith("/Probed")]}
    assert [(change.what, change.breaking) for change in changes(full, without)] == [("no longer allows Probed", True)]
    assert [change.breaking for change in changes(without, full)] == [False]


def test_a_change_inside_one_event_of_the_union_is_found() -> None:
    full = topic_schema(topics.TOKENS)
    delta = full["definitions"]["Delta"]
    fewer = {name: field for name, field in delta["properties"].items() if name != "tokens"}
    changed = {**delta, "properties": fewer, "required": [name for name in delta["required"] if name != "tokens"]}
    found = changes(full, full | {"definitions": full["definitions"] | {"Delta": changed}})
    assert [str(change) for change in found] == ["<Delta>.tokens: field removed"]


def test_a_recursive_schema_ends() -> None:
    class Node(BaseModel):
        children: "tuple[Node, ...]" = ()

    Node.model_rebuild(_types_namespace={"Node": Node})
    generated = Node.model_json_schema(ref_template="#/definitions/{model}")
    recursive = {**generated, "definitions": generated.pop("$defs", {})}
    assert changes(recursive, recursive) == ()
