"""Remembers which conversation was the last, per server, in the user's own configuration folder."""

import json
from pathlib import Path
from typing import Final

from schemas.ids import is_conversation_id

SERVERS_MAX: Final = 50


class LastConversation:
    """One small JSON file: base URL -> conversation id, the newest last. Holds no key and no content."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def recall(self, base_url: str) -> str | None:
        """The last conversation with a server, or None; an unreadable file counts as empty."""
        found = self._read().get(base_url)
        return found if found is not None and is_conversation_id(found) else None

    def remember(self, base_url: str, conversation_id: str) -> None:
        """Make it the last one. Raises OSError when the folder cannot be written."""
        known = self._read()
        known.pop(base_url, None)
        known[base_url] = conversation_id
        newest = dict(list(known.items())[-SERVERS_MAX:])
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(newest), encoding="utf-8")

    def _read(self) -> dict[str, str]:
        try:
            document = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        known = document.items() if isinstance(document, dict) else ()
        return {url: value for url, value in known if isinstance(value, str)}
