"""What a record says about whose and which turn it is, whatever topic it lies on. Pure; decodes at most once."""

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final

from producers.replay.fields import HEADERS, RECORD
from schemas import headers
from schemas.ids import is_turn_id
from schemas.ports import Record
from schemas.topics import BY_NAME, DLQ_SUFFIX, Key, Topic

_NOTHING: Final[Mapping[str, Any]] = {}


def topic_of(name: str) -> Topic:
    """The topic of that name, or whose dead letters it holds. Raises ValueError, naming what there is."""
    topic = BY_NAME.get(name.removesuffix(DLQ_SUFFIX))
    if topic is None or (name.endswith(DLQ_SUFFIX) and not topic.dead_letters):
        raise ValueError(f"no such topic: {name}; there are {', '.join(BY_NAME)}, and {DLQ_SUFFIX} of most")
    return topic


class Reading:
    """One record, its JSON decoded when it is first asked for. A value that is no JSON object says nothing."""

    def __init__(self, record: Record) -> None:
        self.record = record

    @cached_property
    def value(self) -> Mapping[str, Any]:
        """The decoded value."""
        try:
            decoded = json.loads(self.record.value)
        except (ValueError, RecursionError):
            return _NOTHING
        return decoded if isinstance(decoded, dict) else _NOTHING

    @cached_property
    def headers(self) -> Mapping[str, str | None]:
        """The headers as text; the first of a name counts."""
        return {name: headers.header(self.record.headers, name) for name, _ in self.record.headers}

    @property
    def scope(self) -> Mapping[str, Any]:
        """The names of a filter: the fields of the value, ``headers`` and ``record``."""
        record = self.record
        place = {
            "partition": record.partition,
            "offset": record.offset,
            "timestamp_ms": record.timestamp_ms,
            "key": _text(record.key),
        }
        return {**self.value, HEADERS: self.headers, RECORD: place}

    @property
    def turn_id(self) -> str | None:
        """The turn, as the header says it, else the value, else the key of a topic that is keyed by turns."""
        return self.headers.get(headers.TURN) or self._first("turn_id") or self._turn_of_key()

    @property
    def conversation_id(self) -> str | None:
        """The conversation, as the value says it, else the key of a topic that is keyed by conversations."""
        return self._first("conversation_id") or self._key(Key.CONVERSATION)

    @property
    def user_id(self) -> str | None:
        """The user; before auth alone that of a session is known."""
        return self._first("user_id") or self._key(Key.USER)

    @property
    def tenant_id(self) -> str | None:
        """The tenant; before auth alone that of a session is known."""
        return self._first("tenant_id") or self.headers.get(headers.TENANT)

    @property
    def codes(self) -> frozenset[str]:
        """Every code of a decision that it tells: verdict, category, refusal, finish reason, entry of the ledger."""
        return frozenset(self._codes())

    def _codes(self) -> Iterator[str]:
        value = self.value
        yield from (value[name] for name in ("decision", "finish_reason", "entry") if isinstance(value.get(name), str))
        yield from (code for code in _list(value.get("categories")) if isinstance(code, str))
        error = _object(_object(value.get("refusal")).get("error"))
        yield from (error[name] for name in ("code", "type") if isinstance(error.get(name), str))

    def _first(self, name: str) -> str | None:
        value = self.value
        for part in (value, *(_object(value.get(place)) for place in ("turn", "account", "credential"))):
            if isinstance(found := part.get(name), str):
                return found
        return None

    def _turn_of_key(self) -> str | None:
        key = self._key(Key.TURN)
        # The probes of the edges lie among the turns, under keys of their own.
        return key if key is not None and is_turn_id(key) else None

    def _key(self, kind: Key) -> str | None:
        topic = BY_NAME.get(self.record.topic.removesuffix(DLQ_SUFFIX))
        return _text(self.record.key) if topic is not None and topic.key is kind else None


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode(errors="replace")


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _NOTHING


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
