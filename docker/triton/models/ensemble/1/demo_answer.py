"""What the demonstration model says: a plain, deterministic answer to a rendered prompt. Pure.

It is no AI. It says so, shows the last turns of the conversation (so that one sees the history was used),
and repeats the last message. A prompt that already holds the beginning of the answer, after its last
assistant header, is answered with the rest: nothing is repeated. That is how a real engine continues.

A directive anywhere in the last user message changes one answer, for tests and demonstrations::

    [[demo first_ms=50 gap_ms=20 tokens=60 error=unavailable error_after=10]]

- ``first_ms``, ``gap_ms``: milliseconds before the first token and between tokens.
- ``tokens``: exact length of the whole answer; after the introduction the text then counts its tokens.
- ``tool``: the tool to call, if it is offered; ``none`` calls none.
- ``error``: ``unavailable`` (may be tried again) or ``invalid`` (never). ``error_after=N`` (default 0) breaks off
  when the answer reaches token N, but only a generation that began before it: the continuation goes through.

Offered tools (``demo_tools``) it calls one where that is plausible or asked for; asked for JSON it gives an object that
the schema allows (``demo_schema``). Of several choices each says which it is.

The same files serve Triton's Python backend (``model.py`` beside them) and ``turnstream.local_stack.demo_upstream``.
They need the standard library alone. A server's own pace comes from its parameters ``first_token_ms``, ``gap_ms``
and ``answer_tokens``, or the environment variables ``TURNSTREAM_DEMO_FIRST_TOKEN_MS`` and so on.
"""

# ruff: noqa: INP001  # the folder names are Triton's
from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import demo_schema
import demo_tools

ErrorKind = Literal["unavailable", "invalid"]

TOKEN_CHARS_MAX: Final = 8
ECHO_CHARS_MAX: Final = 280
RECALL_CHARS_MAX: Final = 80
RECALLED_TURNS_MAX: Final = 3
ANSWER_TOKENS_MAX: Final = 100_000
DELAY_MS_MAX: Final = 600_000
INTRODUCTION: Final = "This is the built-in demonstration model of Turnstream, not an AI."
ENVIRONMENT_PREFIX: Final = "TURNSTREAM_DEMO_"
CLOSING: Final = "Point a model pool at a real engine, and this text becomes a real answer."

# Parameter of a server (config.pbtxt, environment) -> field of Pace.
_PARAMETERS: Final = {"first_token_ms": "first_ms", "gap_ms": "gap_ms", "answer_tokens": "tokens"}
_TOKEN: Final = re.compile(rf"\s*\S{{1,{TOKEN_CHARS_MAX}}}|\s+")
_DIRECTIVE: Final = re.compile(r"\[\[demo\s([^\[\]]*)\]\]")
# The two templates of consumers.inference.chat_template: role header, text, end of turn.
_CHATML: Final = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>\n?|\Z)", re.DOTALL)
_LLAMA3: Final = re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n(.*?)(?:<\|eot_id\|>|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Pace:
    """How fast and how long to answer; ``tokens`` None lets the text decide. Milliseconds."""

    first_ms: float = 150.0
    gap_ms: float = 25.0
    tokens: int | None = None
    error: ErrorKind | None = None
    error_after: int = 0


@dataclass(frozen=True)
class Conversation:
    """The messages of a prompt as (role, text), what the answer already has, and what it is to be.

    ``schema``: JSON that it allows, of any kind if it is empty; None: text. ``form``: the template to write calls in;
    "" leaves the call to whoever asks. ``choice``: which of several answers.
    """

    messages: tuple[tuple[str, str], ...]
    prefix: str = ""
    tools: tuple[demo_tools.Tool, ...] = ()
    mode: demo_tools.Mode = "auto"
    schema: Mapping[str, Any] | None = None
    form: demo_tools.Form = ""
    choice: int = 0


@dataclass(frozen=True)
class Plan:
    """One answer: the tokens still to send, when to send them, and how it ends.

    ``error`` is raised instead of the token at index ``error_at`` of ``tokens``. With ``call`` the tokens are those of
    the call: of its arguments, or of all its text in the template's form.
    """

    tokens: tuple[str, ...]
    pace: Pace
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    error: ErrorKind | None = None
    error_at: int = 0
    call: demo_tools.Call | None = None

    def due_ms(self, index: int) -> float:
        """Milliseconds after the start at which the token ``index`` is due."""
        return self.pace.first_ms + index * self.pace.gap_ms


def pace_from(values: Mapping[str, str], default: Pace) -> Pace:
    """``default`` with the fields that ``values`` names; bad values are left out, sizes are bounded."""
    error = values.get("error")
    return Pace(
        first_ms=_milliseconds(values.get("first_ms"), default.first_ms),
        gap_ms=_milliseconds(values.get("gap_ms"), default.gap_ms),
        tokens=_count(values.get("tokens"), default.tokens),
        error="unavailable" if error == "unavailable" else "invalid" if error == "invalid" else default.error,
        error_after=_count(values.get("error_after"), default.error_after) or 0,
    )


def server_pace(parameters: Mapping[str, str], environ: Mapping[str, str]) -> Pace:
    """The pace of a whole server: its parameters, overridden by ``TURNSTREAM_DEMO_<PARAMETER>``."""
    values = {}
    for parameter, field in _PARAMETERS.items():
        text = environ.get(ENVIRONMENT_PREFIX + parameter.upper()) or parameters.get(parameter)
        if text:
            values[field] = text
    return pace_from(values, Pace())


def parse_prompt(prompt: str) -> Conversation:
    """Read a prompt in ChatML or Llama 3 form; any other text is taken as one user message."""
    forms: dict[demo_tools.Form, re.Pattern[str]] = {"chatml": _CHATML, "llama3": _LLAMA3}
    for form, pattern in forms.items():
        found = [(role, text) for role, text in pattern.findall(prompt)]
        if not found:
            continue
        prefix = found.pop()[1] if found[-1][0] == "assistant" else ""
        tools = demo_tools.tools_of_prompt(found)
        forced = bool(tools) and demo_tools.is_forced(prefix)
        return Conversation(
            messages=tuple(demo_tools.plain_messages(found)),
            prefix=prefix,
            tools=tools,
            mode="required" if forced else "auto",
            schema=demo_tools.schema_of_prompt(found),
            form=form,
        )
    return Conversation((("user", prompt),))


def split_tokens(text: str) -> list[str]:
    """Cut ``text`` into the model's tokens: a word or a piece of it, with the space before. They join to ``text``."""
    return _TOKEN.findall(text)


def plan_answer(
    conversation: Conversation, max_tokens: int, stop_words: Sequence[str] = (), default: Pace | None = None
) -> Plan:
    """Decide the whole answer. ``max_tokens`` bounds the tokens after the prefix; a stop word ends it unseen."""
    last = next((text for role, text in reversed(conversation.messages) if role == "user"), "")
    directive = _directive(last)
    pace = pace_from(directive, default or Pace())
    call = None if "tokens" in directive else _call(conversation, last, directive.get("tool"))
    whole = _write(call, conversation.form) if call else _compose(conversation, last, pace.tokens)
    prefix = conversation.prefix
    rest = whole.removeprefix(prefix)
    tokens = split_tokens(_until_stop(prefix, rest, stop_words))
    error, error_at = _planned_error(pace, done=len(split_tokens(prefix)))
    return Plan(
        tokens=tuple(tokens[:max_tokens]),
        pace=pace,
        finish_reason="length" if len(tokens) > max_tokens else "stop",
        prompt_tokens=sum(len(split_tokens(text)) for _, text in conversation.messages),
        error=error,
        error_at=error_at,
        call=call,
    )


def logprob(token: str, index: int) -> float:
    """A plausible log probability of the token at ``index``: always the same, never 0."""
    return -(1 + zlib.crc32(f"{index}:{token}".encode()) % 1000) / 1000


def alternatives(token: str, index: int, count: int) -> list[tuple[str, float]]:
    """The ``count`` likeliest tokens at ``index``: the drawn one first."""
    first = logprob(token, index)
    others = [(f"{token}{other}", first - 1 - other) for other in range(count - 1)]
    return [(token, first), *others][:count]


def _call(conversation: Conversation, last: str, wanted: str | None) -> demo_tools.Call | None:
    said = _DIRECTIVE.sub("", last)
    messages = [(role, said if text == last else text) for role, text in conversation.messages]
    return demo_tools.choose(conversation.tools, conversation.mode, messages, wanted)


def _write(call: demo_tools.Call, form: demo_tools.Form) -> str:
    return call.written(form) if form else call.arguments


def _compose(conversation: Conversation, last: str, tokens: int | None) -> str:
    if tokens is not None:
        return _counted(tokens, conversation.choice)
    said, messages = _DIRECTIVE.sub("", last), conversation.messages
    if conversation.schema is not None:
        return _json(conversation.schema, said)
    parts = [INTRODUCTION]
    if conversation.choice:
        parts.append(f" This is choice {conversation.choice + 1}.")
    answers = _tool_answers(messages)
    parts.extend(f'\n\nThe tool answered: "{_shorten(text, ECHO_CHARS_MAX)}"' for text in answers)
    recalled = _recall(messages)
    if recalled:
        parts.append(f"\n\nI remember this conversation ({len(messages) - 1} messages before this one):")
        parts.extend(f"\n- {role}: {_shorten(text, RECALL_CHARS_MAX)}" for role, text in recalled)
    words = len(said.split())
    parts.append(f'\n\nYou wrote ({words} word{"" if words == 1 else "s"}): "{_shorten(said, ECHO_CHARS_MAX)}"')
    parts.append(f"\n\n{CLOSING}")
    return "".join(parts)


def _json(schema: Mapping[str, Any], said: str) -> str:
    value = demo_schema.fill(schema, said) if schema else demo_schema.keyed_object(said, INTRODUCTION)
    return json.dumps(value, ensure_ascii=False)


def _tool_answers(messages: Sequence[tuple[str, str]]) -> list[str]:
    """What tools answered since anybody else spoke."""
    answers: list[str] = []
    for role, text in messages:
        answers = [*answers, text] if role == "tool" else []
    return answers


def _recall(messages: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    earlier = [message for message in messages[:-1] if message[0] in {"user", "assistant"}]
    return earlier[-2 * RECALLED_TURNS_MAX :]


def _counted(count: int, choice: int) -> str:
    tokens = split_tokens(INTRODUCTION)[:count]
    mark = f"/{choice + 1}" if choice else ""
    # Counted words: a reader sees at once where a token is missing or repeated.
    tokens.extend(f" {number}{mark}" for number in range(len(tokens) + 1, count + 1))
    return "".join(tokens)


def _shorten(text: str, chars_max: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= chars_max else line[: chars_max - 1].rstrip() + "…"


def _until_stop(prefix: str, rest: str, stop_words: Sequence[str]) -> str:
    # A stop word may begin inside the prefix: look back by its length, as an engine that kept its state would.
    cut = len(rest)
    for word in filter(None, stop_words):
        reach = prefix[-(len(word) - 1) :] if len(word) > 1 else ""
        found = (reach + rest).find(word)
        if found >= 0:
            cut = min(cut, max(0, found - len(reach)))
    return rest[:cut]


def _planned_error(pace: Pace, done: int) -> tuple[ErrorKind | None, int]:
    if pace.error is None or (pace.error_after > 0 and done >= pace.error_after):
        return None, 0
    return pace.error, max(0, pace.error_after - done)


def _directive(text: str) -> dict[str, str]:
    found = _DIRECTIVE.search(text)
    if found is None:
        return {}
    return dict(word.split("=", 1) for word in found.group(1).split() if "=" in word)


def _milliseconds(text: str | None, default: float) -> float:
    if text is None or not text.isascii() or not text.replace(".", "", 1).isdigit():
        return default
    return min(float(text), DELAY_MS_MAX)


def _count(text: str | None, default: int | None) -> int | None:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > len(str(ANSWER_TOKENS_MAX)):
        return default
    return min(int(text), ANSWER_TOKENS_MAX)
