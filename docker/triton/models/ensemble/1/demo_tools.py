"""Which tool the demonstration model calls, and how tools look in a prompt. Pure; standard library alone.

It calls a tool when it must, or when the last message shares words with the tool's name, description or parameters;
after a tool has answered it says what the answer was. The arguments come from ``demo_schema``.
"""

# ruff: noqa: INP001  # the folder names are Triton's
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import demo_schema

Mode = Literal["auto", "required", "none"]
Form = Literal["", "chatml", "llama3"]

CALL_SCORE_MIN: Final = 3
_TOOLS: Final = re.compile(r"<tools>\n(.*?)\n</tools>", re.DOTALL)
_SCHEMA: Final = re.compile(r"<answer_schema>\n(.*?)\n</answer_schema>", re.DOTALL)
_RESPONSE: Final = re.compile(r"<tool_response>\n(.*?)\n</tool_response>", re.DOTALL)
_CALL: Final = re.compile(r'<tool_call>\n\{"name": ("(?:[^"\\]|\\.)*").*?</tool_call>', re.DOTALL)
_BARE_CALL: Final = re.compile(r'\{"name": ("(?:[^"\\]|\\.)*"), "parameters": .*\}\Z', re.DOTALL)
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_a-zA-Z]+")
# Words that say nothing about what is asked for.
_DULL: Final = frozenset(
    re.findall(
        r"\w+",
        "a an and any are as at be by call can do does for from function get give has have how if in input is it its "
        "make me my of on or please return returns set tell that the their this to tool use used using value was what "
        "when where which who will with you your",
    )
)


@dataclass(frozen=True)
class Tool:
    """A function that may be called."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """What the model wants called; ``arguments`` is JSON text."""

    name: str
    arguments: str

    def written(self, form: Form) -> str:
        """The call as a model of that template writes it."""
        if form == "llama3":
            return f'{{"name": {json.dumps(self.name, ensure_ascii=False)}, "parameters": {self.arguments}}}'
        name = json.dumps(self.name, ensure_ascii=False)
        return f'<tool_call>\n{{"name": {name}, "arguments": {self.arguments}}}\n</tool_call>'


def choose(tools: Sequence[Tool], mode: Mode, messages: Sequence[tuple[str, str]], wanted: str | None) -> Call | None:
    """The call to answer with, if any; ``wanted`` is a tool that the prompt's directive names, or ``none``."""
    said = next((text for role, text in reversed(messages) if role == "user"), "")
    named = next((tool for tool in tools if tool.name == wanted), None)
    if not tools or mode == "none" or wanted == "none":
        return None
    answered = bool(messages) and messages[-1][0] == "tool"
    if mode == "auto" and answered:
        return None
    best = named or max(tools, key=lambda tool: _score(tool, said))
    if mode == "auto" and named is None and _score(best, said) < CALL_SCORE_MIN:
        return None
    schema = {"type": "object", **best.parameters}
    return Call(best.name, json.dumps(demo_schema.fill(schema, said), ensure_ascii=False))


def offered_tools(functions: Any) -> tuple[Tool, ...]:
    """OpenAI's list of tools; what is no function is left out."""
    tools = []
    for one in functions if isinstance(functions, list) else ():
        function = one.get("function") if isinstance(one, Mapping) else None
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            parameters = function.get("parameters")
            tools.append(
                Tool(
                    name=function["name"],
                    description=str(function.get("description") or ""),
                    parameters=parameters if isinstance(parameters, Mapping) else {},
                )
            )
    return tuple(tools)


def tools_of_prompt(messages: Sequence[tuple[str, str]]) -> tuple[Tool, ...]:
    """The tools that the system's message lists."""
    found = next((match for role, text in messages if role == "system" and (match := _TOOLS.search(text))), None)
    return offered_tools([_loads(line) for line in found[1].splitlines()]) if found else ()


def schema_of_prompt(messages: Sequence[tuple[str, str]]) -> Mapping[str, Any] | None:
    """The schema of the answer that the system's message gives."""
    found = next((match for role, text in messages if role == "system" and (match := _SCHEMA.search(text))), None)
    schema = _loads(found[1]) if found else None
    return schema if isinstance(schema, Mapping) else None


def plain_messages(messages: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Messages without markup: what tools answered under a role of their own, and calls in words."""
    for role, text in messages:
        responses = _RESPONSE.findall(text) if role == "user" else []
        if responses and not _RESPONSE.sub("", text).strip():
            yield from (("tool", response) for response in responses)
        elif role == "ipython":
            yield "tool", text
        elif role == "assistant" and ("<tool_call>" in text or '"parameters"' in text):
            yield role, _BARE_CALL.sub(_in_words, _CALL.sub(_in_words, text)).strip()
        else:
            yield role, text


def in_words(name: str) -> str:
    """A call of the past, for a reader."""
    return f"(called {name})"


def is_forced(prefix: str) -> bool:
    """Whether an answer is made to begin with a call."""
    return prefix.startswith(("<tool_call>", '{"name": "'))


def _in_words(found: re.Match[str]) -> str:
    return in_words(str(_loads(found[1])))


def _score(tool: Tool, said: str) -> int:
    words = _words(said)
    properties = demo_schema.resolve(tool.parameters, tool.parameters).get("properties") or {}
    parameters = set().union(*(_words(name) for name in properties)) if properties else set()
    numeric = [
        one for one in properties.values() if isinstance(one, Mapping) and one.get("type") in {"integer", "number"}
    ]
    score = 10 * (tool.name.lower() in said.lower())
    score += 3 * len(words & _words(tool.name)) + 2 * len(words & parameters)
    score += len(words & (_words(tool.description) - parameters))
    return score + 3 * (len(numeric) > 1 and len(numeric) == demo_schema.numbers_in(said))


def _words(text: str) -> set[str]:
    words = {word.lower() for word in _WORD.findall(text)}
    # A plural is the same word.
    return {word.removesuffix("s") if len(word) > 3 else word for word in words - _DULL}  # noqa: PLR2004


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
