"""The answer so far: its pieces put together again, choice by choice. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from consumers.sse.core import Piece
from schemas.generation import TokenLogprob, ToolCallDelta


@dataclass(slots=True)
class ComposedCall:
    """A tool call whose arguments have come so far."""

    id: str
    name: str
    _arguments: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        """The JSON text, as far as it goes."""
        return "".join(self._arguments)

    def add(self, delta: ToolCallDelta) -> None:
        """Take the next piece."""
        if delta.arguments is not None:
            self._arguments.append(delta.arguments.text)


@dataclass(slots=True)
class ComposedChoice:
    """One of the answers."""

    calls: dict[int, ComposedCall] = field(default_factory=dict)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    _texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What it says, as far as it goes."""
        return "".join(self._texts)

    def add(self, piece: Piece) -> None:
        """Take its next piece."""
        self._texts.append(piece.text)
        self.logprobs.extend(piece.logprobs)
        for delta in piece.tool_calls:
            call = self.calls.get(delta.index)
            if call is None:
                call = self.calls[delta.index] = ComposedCall(delta.id or "", delta.name or "")
            call.add(delta)


class Composition:
    """All choices of one answer; ``chars`` is their size."""

    def __init__(self, pieces: Iterable[Piece] = ()) -> None:
        self.chars = 0
        self._choices: dict[int, ComposedChoice] = {}
        for piece in pieces:
            self.add(piece)

    def add(self, piece: Piece) -> None:
        """Take the next piece."""
        self.choice(piece.choice).add(piece)
        self.chars += len(piece.text) + sum(len(d.arguments.text) for d in piece.tool_calls if d.arguments is not None)

    def choice(self, index: int) -> ComposedChoice:
        """The choice ``index``, empty if nothing came of it."""
        return self._choices.setdefault(index, ComposedChoice())
