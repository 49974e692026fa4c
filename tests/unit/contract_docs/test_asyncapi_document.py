"""The AsyncAPI document has the structure of version 3.0.0 and says what the topics say."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from schemas import headers
from schemas.topics import ALL_TOPICS, Topic
from turnstream.contract_docs.asyncapi import asyncapi_document, asyncapi_yaml
from turnstream.contract_docs.documents import ASYNCAPI
from turnstream.contract_docs.json_schemas import event_schemas, resolve, topic_schema
from turnstream.contract_docs.record_headers import DEAD_LETTER_HEADERS, RECORD_HEADERS
from turnstream.contract_docs.topic_roles import readers, writers

ROOT = Path(__file__).parents[3]
DOCUMENT = asyncapi_document()

every_topic = pytest.mark.parametrize("topic", ALL_TOPICS, ids=lambda topic: topic.name)

REFERENCE: dict[str, Any] = {
    "type": "object",
    "required": ["$ref"],
    "properties": {"$ref": {"type": "string", "pattern": "^#/"}},
    "additionalProperties": False,
}
# The parts of the AsyncAPI 3.0.0 specification that this document uses, with its required fields.
STRUCTURE: dict[str, Any] = {
    "type": "object",
    "required": ["asyncapi", "info", "channels", "operations", "components"],
    "additionalProperties": False,
    "properties": {
        "asyncapi": {"const": "3.0.0"},
        "info": {"type": "object", "required": ["title", "version"]},
        "defaultContentType": {"const": "application/json"},
        "channels": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["address", "messages", "bindings"],
                "properties": {"messages": {"type": "object", "additionalProperties": REFERENCE}},
                "patternProperties": {"^x-": {}},
            },
        },
        "operations": {
            "type": "object",
            "propertyNames": {"pattern": r"^[\w.-]+$"},
            "additionalProperties": {
                "type": "object",
                "required": ["action", "channel"],
                "properties": {
                    "action": {"enum": ["send", "receive"]},
                    "channel": REFERENCE,
                    "messages": {"type": "array", "minItems": 1, "items": REFERENCE},
                },
            },
        },
        "components": {
            "type": "object",
            "propertyNames": {"enum": ["messages"]},
            "properties": {
                "messages": {
                    "type": "object",
                    "propertyNames": {"pattern": r"^[a-zA-Z0-9.\-_]+$"},
                    "additionalProperties": {"type": "object", "required": ["name", "headers", "payload"]},
                }
            },
        },
    },
}


def pointer(reference: str) -> Any:
    found: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [each for value in node.values() for each in references(value)]
    return [each for value in node for each in references(value)] if isinstance(node, list) else []


def test_it_has_the_structure_of_asyncapi_3() -> None:
    assert [error.json_path for error in Draft7Validator(STRUCTURE).iter_errors(DOCUMENT)] == []


def test_every_reference_leads_somewhere() -> None:
    found = references(DOCUMENT)
    assert len(found) > 100
    for reference in found:
        if reference.startswith("#/"):
            assert pointer(reference)
        else:
            assert (ROOT / ASYNCAPI.parent / reference).is_file()


def test_the_yaml_is_the_document() -> None:
    assert yaml.safe_load(asyncapi_yaml()) == DOCUMENT


@every_topic
def test_a_channel_says_how_the_topic_is_made(topic: Topic) -> None:
    channel = DOCUMENT["channels"][topic.name]
    kafka = channel["bindings"]["kafka"]
    assert (channel["address"], kafka["partitions"]) == (topic.name, topic.partitions)
    assert kafka["topicConfiguration"]["retention.ms"] == topic.retention_hours * 3_600_000
    assert kafka["topicConfiguration"]["cleanup.policy"] == [topic.cleanup.value]
    assert channel["x-key"] == topic.key.value
    assert (topic.dlq in DOCUMENT["channels"]) == topic.dead_letters


@every_topic
def test_every_writer_sends_and_every_reader_receives(topic: Topic) -> None:
    operations = DOCUMENT["operations"]
    for stage in writers(topic):
        assert operations[f"{stage}.send.{topic.name}"]["action"] == "send"
    for stage in readers(topic):
        assert operations[f"{stage}.receive.{topic.name}"]["action"] == "receive"


def test_stages_are_names_and_not_sentences() -> None:
    stages = {stage for topic in ALL_TOPICS for stage in (*writers(topic), *readers(topic))}
    assert all(" " not in stage for stage in stages), stages
    assert {"edge", "auth", "rate_limit", "prompt", "moderation", "cassandra_sink", "windows"} <= stages


def test_every_header_of_the_contract_is_described() -> None:
    spelled = {value for name, value in vars(headers).items() if name.isupper()}
    described = {field.name for field in (*RECORD_HEADERS, *DEAD_LETTER_HEADERS)}
    assert described == spelled


@every_topic
def test_the_json_schema_is_valid_and_complete(topic: Topic) -> None:
    schema = topic_schema(topic)
    Draft7Validator.check_schema(schema)
    assert all(resolve(schema, {"$ref": each}) for each in references(schema))
    assert all(event["type"] == "object" for event in event_schemas(topic))
    assert json.loads(json.dumps(schema)) == schema
