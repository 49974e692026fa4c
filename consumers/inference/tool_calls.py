"""Tool calls out of the text that a model writes, as it comes. Pure.

Text before a call goes on at once; of a call, id and name go first and its arguments as they are written. No marker
and no part of one is ever passed on as text.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from consumers.inference.tool_markup import CALL_CLOSE, CALL_OPEN
from schemas.content import Content
from schemas.generation import ToolCallDelta

_HEADER: Final = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*')
_BARE_START: Final = '{"name"'
_PYTHON_TAG: Final = "<|python_tag|>"
# A shorter end of a text is more likely text ("a < b") than half a marker.
_MARKER_CHARS_MIN: Final = 6
_ARGUMENTS_DEPTH: Final = 2


@dataclass(frozen=True, slots=True)
class Said:
    """What can be passed on: text, or pieces of calls."""

    text: str = ""
    calls: tuple[ToolCallDelta, ...] = ()


class CallParser(Protocol):
    """Feed it the model's text; get what a client may see. ``calls`` counts the complete ones."""

    calls: int

    def feed(self, raw: str) -> Said:
        """What ``raw`` completes."""
        ...

    def flush(self) -> Said:
        """The rest, when the model has ended."""
        ...


class _Body:
    """One JSON object that is a call: its name first, its arguments while they are written."""

    def __init__(self, index: int, call_id: str) -> None:
        self._index, self._id = index, call_id
        self._raw = ""
        self._depth = 0
        self._in_string = self._escaped = False
        self.streaming = self._arguments_over = False
        self.complete = self.broken = False

    @property
    def raw(self) -> str:
        """All of it so far."""
        return self._raw

    def feed(self, raw: str) -> tuple[list[ToolCallDelta], str]:
        """The pieces of the call in ``raw``, and what of it comes after the object."""
        pieces: list[ToolCallDelta] = []
        written = ""
        for at, char in enumerate(raw):
            if self._depth == 0 and char != "{":
                if not char.isspace():
                    self.broken = True
                    return pieces, raw[at:]
                continue
            self._raw += char
            self._count(char)
            if self.streaming and not self._arguments_over:
                written += char
                self._arguments_over = self._depth < _ARGUMENTS_DEPTH
            elif char == "{" and self._depth == _ARGUMENTS_DEPTH and not self.streaming:
                pieces += self._begin()
                written = char if self.streaming else ""
            if self._depth == 0:
                self.complete = True
                return [*pieces, *self._piece(written), *self._whole()], raw[at + 1 :]
        return [*pieces, *self._piece(written)], ""

    def _count(self, char: str) -> None:
        if self._in_string:
            if self._escaped:
                self._escaped = False
            elif char == "\\":
                self._escaped = True
            elif char == '"':
                self._in_string = False
        elif char == '"':
            self._in_string = True
        elif char in "{[":
            self._depth += 1
        elif char in "}]":
            self._depth -= 1

    def _begin(self) -> list[ToolCallDelta]:
        header = _HEADER.fullmatch(self._raw[:-1])
        if header is None:
            return []
        self.streaming = True
        return [ToolCallDelta(index=self._index, id=self._id, name=_loads(header[1]) or "", arguments=Content(""))]

    def _piece(self, written: str) -> list[ToolCallDelta]:
        return [ToolCallDelta(index=self._index, arguments=Content(written))] if written else []

    def _whole(self) -> list[ToolCallDelta]:
        """The call at once, of an object whose members come in another order or form."""
        if self.streaming:
            return []
        call = _loads(self._raw)
        arguments = call.get("arguments", call.get("parameters")) if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(call.get("name"), str) or not _is_arguments(call):
            self.broken, self.complete = True, False
            return []
        text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
        return [ToolCallDelta(index=self._index, id=self._id, name=call["name"], arguments=Content(text))]


class MarkedCalls:
    """Calls between ``<tool_call>`` and ``</tool_call>``: Hermes, Qwen and others that speak ChatML."""

    def __init__(self, call_id: Callable[[int], str]) -> None:
        """``call_id`` names the calls by their index."""
        self.calls = 0
        self._call_id = call_id
        self._pending = ""
        self._body: _Body | None = None
        self._after_call = False

    def feed(self, raw: str) -> Said:
        """See ``CallParser``."""
        self._pending += raw
        text, pieces = "", list[ToolCallDelta]()
        while True:
            if self._body is not None:
                pieces += self._feed_body(self._body)
                over, spilled = self._close(self._body)
                text += spilled
                if not over:
                    return Said(text, tuple(pieces))
            at = self._pending.find(CALL_OPEN)
            if at < 0:
                return Said(text + self._release(len(self._pending) - self._suspicious()), tuple(pieces))
            text += self._release(at).rstrip()
            self._pending = self._pending.removeprefix(CALL_OPEN)
            self._body = _Body(self.calls, self._call_id(self.calls))

    def flush(self) -> Said:
        """See ``CallParser``."""
        pending, self._pending = self._pending, ""
        if self._body is None:
            half = len(pending.lstrip()) >= _MARKER_CHARS_MIN and CALL_OPEN.startswith(pending.strip())
            return Said("" if half or (self._after_call and not pending.strip()) else pending)
        if self._body.broken and not self._body.complete:
            return Said((self._body.raw + pending).strip())
        return Said()

    def _feed_body(self, body: _Body) -> list[ToolCallDelta]:
        if body.complete or body.broken:
            return []
        pieces, self._pending = body.feed(self._pending)
        self.calls += body.complete
        return pieces

    def _close(self, body: _Body) -> tuple[bool, str]:
        """Whether the call is over, and the text that it turned out to be if it is none."""
        rest = self._pending.lstrip()
        if body.broken:
            raw, marker, rest = self._pending.partition(CALL_CLOSE)
            if not marker:
                return False, ""
            spilled = (body.raw + raw).strip()
        elif body.complete and rest and not (CALL_CLOSE.startswith(rest) and rest != CALL_CLOSE):
            rest, spilled = rest.removeprefix(CALL_CLOSE), ""
        else:
            return False, ""
        self._pending, self._body, self._after_call = rest, None, True
        return True, spilled

    def _release(self, end: int) -> str:
        text, self._pending = self._pending[:end], self._pending[end:]
        if self._after_call:
            # Line breaks between calls are layout, not text.
            text = text.lstrip()
        self._after_call = self._after_call and not text
        return text

    def _suspicious(self) -> int:
        """How many of the last characters may be the beginning of a marker, with the white space before it."""
        stripped = self._pending
        for length in range(min(len(CALL_OPEN) - 1, len(self._pending)), 0, -1):
            if CALL_OPEN.startswith(self._pending[-length:]):
                stripped = self._pending[:-length]
                break
        return len(self._pending) - len(stripped.rstrip())


class BareCalls:
    """Answers that are nothing but JSON objects with a name and parameters: Llama 3."""

    def __init__(self, call_id: Callable[[int], str], *, begun: bool = False) -> None:
        """``begun``: the answer has text already, so that it is no call."""
        self.calls = 0
        self._call_id = call_id
        self._pending = ""
        self._body: _Body | None = None
        self._plain = begun

    def feed(self, raw: str) -> Said:
        """See ``CallParser``."""
        if self._plain:
            return Said(raw)
        self._pending += raw
        pieces: list[ToolCallDelta] = []
        while True:
            if self._body is None and not self._opens():
                return Said(self._give_up() if self._plain else "", tuple(pieces))
            self._body = self._body or _Body(self.calls, self._call_id(self.calls))
            more, self._pending = self._body.feed(self._pending)
            pieces += more
            if self._body.broken:
                self._plain, self._pending, self._body = True, self._body.raw + self._pending, None
                return Said(self._give_up(), tuple(pieces))
            if not self._body.complete:
                return Said("", tuple(pieces))
            self.calls, self._body = self.calls + 1, None

    def flush(self) -> Said:
        """See ``CallParser``."""
        if self._body is not None:
            return Said() if self._body.streaming else Said(self._body.raw)
        return Said() if self.calls and not self._pending.strip(" \n;,") else Said(self._give_up())

    def _opens(self) -> bool:
        """Whether a call begins here; finds out too when none does (``_plain``)."""
        start = self._pending.lstrip(" \n;," if self.calls else None).removeprefix(_PYTHON_TAG).lstrip()
        compact = re.sub(r"\s", "", start[: 4 * len(_BARE_START)])
        if compact.startswith(_BARE_START):
            self._pending = start
            return True
        self._plain = not _BARE_START.startswith(compact) and not _PYTHON_TAG.startswith(start)
        return False

    def _give_up(self) -> str:
        text, self._pending = self._pending, ""
        return text


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _is_arguments(call: dict[str, Any]) -> bool:
    return "arguments" in call or "parameters" in call
