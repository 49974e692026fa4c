"""What a process remembers of clients, within bounds: nobody can fill its memory."""

import secrets
from collections import OrderedDict
from hashlib import blake2b
from typing import Any, Final, Generic, TypeVar

_DIGEST_BYTES: Final = 16
_FindingT = TypeVar("_FindingT")


class Findings(Generic[_FindingT]):
    """What was found out about texts that must not be kept: by keyed digests, for the ``entries_max`` used last."""

    def __init__(self, entries_max: int) -> None:
        self._entries_max = entries_max
        self._findings: OrderedDict[bytes, _FindingT] = OrderedDict()
        self._key = secrets.token_bytes(_DIGEST_BYTES)

    def get(self, text: str) -> _FindingT | None:
        """What was found out about ``text``, if that is remembered."""
        name = self._name(text)
        finding = self._findings.get(name)
        if finding is not None:
            self._findings.move_to_end(name)
        return finding

    def keep(self, text: str, finding: _FindingT) -> None:
        """Remember what was found out about ``text``."""
        self._findings[self._name(text)] = finding
        forget_oldest(self._findings, self._entries_max)

    def _name(self, text: str) -> bytes:
        return blake2b(text.encode(), digest_size=_DIGEST_BYTES, key=self._key).digest()


def forget_oldest(entries: OrderedDict[Any, Any], entries_max: int) -> None:
    """Leave at most ``entries_max`` of ``entries``: the first ones go."""
    while len(entries) > entries_max:
        entries.popitem(last=False)
