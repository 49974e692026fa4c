"""One JSON Schema per topic, as a reader in any language needs it."""

from typing import Any, Final

from schemas import serde
from schemas.topics import Topic

Schema = dict[str, Any]

# Draft 7 is what AsyncAPI 3.0 requires every tool to understand, and nothing of the models needs a newer one.
DIALECT: Final = "http://json-schema.org/draft-07/schema#"
DEFINITIONS: Final = "definitions"
_REF_PREFIX: Final = f"#/{DEFINITIONS}/"


def topic_schema(topic: Topic) -> Schema:
    """The draft-07 schema of the values of ``topic``: what a reader may rely on, unknown fields allowed."""
    generated = serde.adapter(topic).json_schema(ref_template=_REF_PREFIX + "{model}")
    definitions = generated.pop("$defs", {})
    head = {"$schema": DIALECT, "$id": f"urn:turnstream:topic:{topic.name}"}
    return head | generated | ({DEFINITIONS: definitions} if definitions else {})


def resolve(root: Schema, schema: Schema) -> Schema:
    """``schema`` itself, or the definition of ``root`` that it refers to. Raises KeyError for a dangling one."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    definition: Schema = root[DEFINITIONS][definition_name(reference)]
    return definition


def definition_name(reference: str) -> str:
    """The name at the end of a reference into the definitions."""
    return reference.removeprefix(_REF_PREFIX)


def event_schemas(topic: Topic) -> tuple[Schema, ...]:
    """The schema of each event that may be on ``topic``: one, or the members of its union."""
    root = topic_schema(topic)
    members = root.get("oneOf")
    return (root,) if members is None else tuple(resolve(root, member) for member in members)
