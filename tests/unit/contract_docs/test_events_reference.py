import re
from pathlib import Path

import pytest

from schemas.topics import ALL_TOPICS, Topic
from turnstream.contract_docs.events_reference import events_markdown
from turnstream.contract_docs.example_files import EXAMPLES
from turnstream.contract_docs.field_words import type_words
from turnstream.contract_docs.json_schemas import event_schemas

ROOT = Path(__file__).parents[3]
PAGE = events_markdown(ROOT / EXAMPLES)


@pytest.mark.parametrize("topic", ALL_TOPICS, ids=lambda topic: topic.name)
def test_a_topic_has_its_section_fields_and_an_example(topic: Topic) -> None:
    section = PAGE.split(f"\n## {topic.name}\n", 1)[1].split("\n## ", 1)[0]
    assert topic.summary in section
    for event in event_schemas(topic):
        part = section.split(f"### {event['title']}\n", 1)[1].split("\n### ", 1)[0]
        assert all(f"| `{field}` |" in part for field in event["properties"])
        assert "```json" in part


def test_every_link_inside_the_page_has_its_heading() -> None:
    headings = {re.sub(r"[^\w -]", "", line.lstrip("# ")).lower() for line in PAGE.splitlines() if line.startswith("#")}
    links = set(re.findall(r"\]\(#([^)]+)\)", PAGE))
    assert len(links) > len(ALL_TOPICS)
    assert links <= headings


def test_every_link_to_an_example_has_its_file() -> None:
    links = re.findall(r"\]\(\.\./([^)]+)\)", PAGE)
    assert links
    assert all((ROOT / link).is_file() for link in links)


def test_tables_keep_their_columns() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    widths = {len(re.split(r"(?<!\\)\|", row)) for row in rows}
    assert widths <= {5, 6, 8}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 0}, "integer, at least 0"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string"),
        ({"$ref": "#/definitions/Turn"}, "[Turn](#turn)"),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 4}, "list of string, at most 4 items"),
        ({"const": "delta", "type": "string"}, "`delta`"),
        ({"enum": ["a", "b"], "type": "string"}, "one of `a`, `b`"),
        ({"type": "string", "x-pii": True}, "string (*content*)"),
        ({}, "any"),
    ],
)
def test_types_are_said_in_words(schema: dict[str, object], words: str) -> None:
    assert type_words(schema) == words
