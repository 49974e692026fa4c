"""All generated documents of a checkout: what they should say, what is stale, and whether a change may pass."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schemas.topics import ALL_TOPICS
from turnstream.contract_docs.asyncapi import asyncapi_yaml
from turnstream.contract_docs.compatibility import Change, changes
from turnstream.contract_docs.events_reference import events_markdown
from turnstream.contract_docs.example_files import EXAMPLES
from turnstream.contract_docs.json_schemas import Schema, topic_schema
from turnstream.contract_docs.metrics_reference import metrics_markdown
from turnstream.contract_docs.settings_reference import settings_markdown

JSON_SCHEMAS: Final = Path("schemas/generated/json")
ASYNCAPI: Final = Path("schemas/generated/asyncapi.yaml")
EVENTS_PAGE: Final = Path("docs/events.md")
SETTINGS_PAGE: Final = Path("docs/settings.md")
METRICS_PAGE: Final = Path("docs/metrics.md")


@dataclass(frozen=True, slots=True)
class ContractState:
    """How the committed documents of a checkout compare with the models. Paths are relative to the checkout."""

    stale: tuple[Path, ...]
    breaking: tuple[str, ...]
    readers_first: tuple[str, ...]


def documents(root: Path) -> dict[Path, str]:
    """The text of every generated file, by its path in the checkout ``root``."""
    rendered = {JSON_SCHEMAS / f"{topic.name}.json": _pretty(topic_schema(topic)) for topic in ALL_TOPICS}
    rendered[ASYNCAPI] = asyncapi_yaml()
    rendered[EVENTS_PAGE] = events_markdown(root / EXAMPLES)
    rendered[SETTINGS_PAGE] = settings_markdown()
    rendered[METRICS_PAGE] = metrics_markdown()
    return rendered


def contract_state(root: Path) -> ContractState:
    """Compare the checkout ``root`` with the models. Reads only."""
    wanted = documents(root)
    committed = _committed_schemas(root)
    found = tuple(_all_changes(committed))
    gone = sorted(committed.keys() - {topic.name for topic in ALL_TOPICS})
    return ContractState(
        stale=tuple(path for path, text in wanted.items() if _read(root / path) != text),
        breaking=(
            *(f"{name}: topic removed" for name in gone),
            *(f"{name}: {change}" for name, change in found if change.breaking),
        ),
        readers_first=tuple(f"{name}: {change}" for name, change in found if not change.breaking),
    )


def write_documents(root: Path) -> tuple[Path, ...]:
    """Write what is stale and remove schemas of topics that are gone; returns the paths that changed."""
    wanted = documents(root)
    changed = [path for path, text in wanted.items() if _read(root / path) != text]
    for path in changed:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(wanted[path], encoding="utf-8")
    for name in _committed_schemas(root).keys() - {topic.name for topic in ALL_TOPICS}:
        path = JSON_SCHEMAS / f"{name}.json"
        (root / path).unlink()
        changed.append(path)
    return tuple(changed)


def _all_changes(committed: Mapping[str, Schema]) -> Iterator[tuple[str, Change]]:
    for topic in ALL_TOPICS:
        if topic.name in committed:
            for change in changes(committed[topic.name], topic_schema(topic)):
                yield topic.name, change


def _committed_schemas(root: Path) -> dict[str, Schema]:
    files = sorted((root / JSON_SCHEMAS).glob("*.json"))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def _read(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None


def _pretty(schema: Schema) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
