"""The golden examples: one file per case, ``<topic>/v1/<case>.json``, indented for people."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from schemas.topics import Topic

EXAMPLES: Final = Path("schemas/examples")
VERSION_FOLDER: Final = "v1"


@dataclass(frozen=True, slots=True)
class Example:
    """One golden record value and the case that it shows."""

    topic: Topic
    case: str
    path: Path

    @property
    def text(self) -> str:
        """The file as it is."""
        return self.path.read_text(encoding="utf-8")

    @property
    def relative_path(self) -> str:
        """Where the file lies under the examples folder."""
        return "/".join(self.path.parts[-3:])

    @property
    def value(self) -> bytes:
        """The record value: the same JSON without its indentation, as ``serde.encode`` writes it."""
        return json.dumps(json.loads(self.text), ensure_ascii=False, separators=(",", ":")).encode()

    @property
    def event_type(self) -> str | None:
        """The discriminator of a union topic, None elsewhere."""
        document: dict[str, Any] = json.loads(self.text)
        return document.get("type")


def topic_examples(folder: Path, topic: Topic) -> tuple[Example, ...]:
    """The examples of ``topic`` under ``folder``, sorted by case; empty when it has none."""
    files = sorted((folder / topic.name / VERSION_FOLDER).glob("*.json"))
    return tuple(Example(topic, file.stem, file) for file in files)
