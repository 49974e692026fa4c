"""The golden examples are the wire format: what they say cannot change without a new topic version."""

import json
from pathlib import Path
from typing import get_args

import pytest
from jsonschema import Draft7Validator

from schemas import ids, serde, topics
from schemas.content import Content
from schemas.event import Event
from schemas.tokens import TokenEvent
from schemas.topics import ALL_TOPICS, BY_NAME, Topic
from turnstream.contract_docs.example_files import EXAMPLES, Example, topic_examples
from turnstream.contract_docs.json_schemas import topic_schema

FOLDER = Path(__file__).parents[3] / EXAMPLES
ALL_EXAMPLES = [example for topic in ALL_TOPICS for example in topic_examples(FOLDER, topic)]

every_example = pytest.mark.parametrize("example", ALL_EXAMPLES, ids=lambda each: each.relative_path)
every_topic = pytest.mark.parametrize("topic", ALL_TOPICS, ids=lambda topic: topic.name)


@every_example
def test_it_decodes_and_encodes_back_byte_for_byte(example: Example) -> None:
    event = serde.decode(example.topic, example.value)
    assert serde.encode(event) == example.value


@every_example
def test_it_satisfies_the_published_schema(example: Example) -> None:
    validator = Draft7Validator(topic_schema(example.topic))
    assert [error.json_path for error in validator.iter_errors(json.loads(example.value))] == []


@every_example
def test_its_turn_and_conversation_ids_are_real(example: Example) -> None:
    event = _decoded(example)
    turn = getattr(event, "turn", event)
    if (turn_id := getattr(turn, "turn_id", None)) is not None:
        assert ids.turn_time_ms(turn_id) > 0
    if (conversation_id := getattr(turn, "conversation_id", None)) is not None:
        assert ids.is_conversation_id(conversation_id)


@every_example
def test_its_content_shows_in_no_repr(example: Example) -> None:
    event = _decoded(example)
    for text in _contents(event):
        assert text not in repr(event)


@every_topic
def test_every_topic_has_an_example(topic: Topic) -> None:
    assert topic_examples(FOLDER, topic)


@pytest.mark.parametrize("member", get_args(get_args(TokenEvent)[0]), ids=lambda member: member.__name__)
def test_every_event_of_an_answer_has_an_example(member: type[Event]) -> None:
    assert any(isinstance(_decoded(example), member) for example in topic_examples(FOLDER, topics.TOKENS))


def test_no_example_belongs_to_a_topic_that_is_gone() -> None:
    assert {folder.name for folder in FOLDER.iterdir() if folder.is_dir()} == set(BY_NAME)


def _decoded(example: Example) -> Event:
    event: Event = serde.decode(example.topic, example.value)
    return event


def _contents(value: object) -> list[str]:
    """The texts of all contents inside an event that are long enough not to occur by chance."""
    if isinstance(value, Content):
        return [value.text] if len(value.text) > 3 else []
    if isinstance(value, tuple):
        return [text for item in value for text in _contents(item)]
    if isinstance(value, Event):
        return [text for name in type(value).model_fields for text in _contents(getattr(value, name))]
    return []
