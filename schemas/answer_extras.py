"""What deltas say beside the text of the one answer: other choices, tool calls, log probabilities.

The store keeps the text of an answer as text, cut by the lengths of its deltas; most answers have nothing else. What
some deltas have more is kept beside it, as JSON Lines, each with the ``seq`` of its delta.
"""

from collections.abc import Mapping, Sequence

from pydantic import Field

from schemas.content import Content
from schemas.event import Event, unset
from schemas.generation import TokenLogprob, ToolCallDelta
from schemas.messages import ToolCall
from schemas.tokens import Delta


class DeltaExtra(Event):
    """What one delta has beside the text of the first choice; ``text`` is that of another one."""

    seq: int = Field(ge=0)
    choice: int = Field(default=0, ge=0, exclude_if=unset)
    text: Content | None = None
    tool_calls: tuple[ToolCallDelta, ...] = Field(default=(), exclude_if=unset)
    logprobs: tuple[TokenLogprob, ...] = Field(default=(), exclude_if=unset)


def split(delta: Delta) -> tuple[str, str]:
    """The text of a delta that belongs to the first choice, and its extra as a line of JSON; empty for none."""
    if not (delta.choice or delta.tool_calls or delta.logprobs):
        return delta.content.text, ""
    extra = DeltaExtra(
        seq=delta.seq,
        choice=delta.choice,
        text=delta.content if delta.choice else None,
        tool_calls=delta.tool_calls,
        logprobs=delta.logprobs,
    )
    return "" if delta.choice else delta.content.text, extra.model_dump_json(exclude_none=True) + "\n"


def read_extras(lines: str | None) -> Mapping[int, DeltaExtra]:
    """Extras by the ``seq`` of their deltas."""
    # Not splitlines: what a model says may hold other line ends, which JSON leaves as they are.
    found = [DeltaExtra.model_validate_json(line) for line in (lines or "").split("\n") if line]
    return {extra.seq: extra for extra in found}


def called(extras: Sequence[DeltaExtra]) -> tuple[ToolCall, ...]:
    """The tool calls of the first choice, whole as far as their pieces go, in their order."""
    names: dict[int, tuple[str, str]] = {}
    arguments: dict[int, str] = {}
    for extra in extras:
        for delta in extra.tool_calls if extra.choice == 0 else ():
            names.setdefault(delta.index, (delta.id or "", delta.name or ""))
            text = "" if delta.arguments is None else delta.arguments.text
            arguments[delta.index] = arguments.get(delta.index, "") + text
    return tuple(
        ToolCall(id=names[index][0], name=names[index][1], arguments=Content(arguments[index]))
        for index in sorted(names)
    )
