"""Tools, and the calls of them, as text that a model reads and writes. Pure."""

import json
from typing import Any, Final

from schemas.generation import FunctionTool, Generation, ResponseFormat
from schemas.messages import ToolCall

CALL_OPEN: Final = "<tool_call>"
CALL_CLOSE: Final = "</tool_call>"
_MARKED_CALL: Final = (
    f'To call one, write {CALL_OPEN}, a JSON object with its "name" and its "arguments", and {CALL_CLOSE}, like this:\n'
    f'{CALL_OPEN}\n{{"name": "the_function", "arguments": {{"parameter": "value"}}}}\n{CALL_CLOSE}'
)
_BARE_CALL: Final = (
    'To call one, answer with nothing but a JSON object of its "name" and its "parameters", like this:\n'
    '{"name": "the_function", "parameters": {"parameter": "value"}}'
)
_VERBOSITY: Final = {"low": "Answer briefly.", "high": "Answer at length and in detail."}


def offered(generation: Generation) -> tuple[FunctionTool, ...]:
    """The tools that the model may call now."""
    choice = generation.tool_choice
    if choice is None:
        return generation.tools
    if choice.mode == "none":
        return ()
    if choice.function is not None:
        return tuple(tool for tool in generation.tools if tool.name == choice.function)
    return tuple(tool for tool in generation.tools if not choice.allowed or tool.name in choice.allowed)


def one_call_only(generation: Generation) -> bool:
    """Whether the answer is over after its first call."""
    named = generation.tool_choice is not None and generation.tool_choice.function is not None
    return named or generation.parallel_tool_calls is False


def grammar(generation: Generation) -> ResponseFormat | None:
    """The form that a grammar is to hold the whole answer to; None where it would keep the model from its tools."""
    return generation.response_format if generation.constrained and not offered(generation) else None


def opening(generation: Generation, *, marked: bool) -> str:
    """What an answer is made to begin with when a tool must be called: the beginning of the call."""
    tools, choice = offered(generation), generation.tool_choice
    if not tools or choice is None or (choice.mode != "required" and choice.function is None):
        return ""
    start = f"{CALL_OPEN}\n" if marked else ""
    if len(tools) == 1:
        key = "arguments" if marked else "parameters"
        return f'{start}{{"name": {_json(tools[0].name)}, "{key}": '
    return f'{start}{{"name": "'


def system_text(generation: Generation, *, marked: bool) -> str:
    """What the system's message says of tools, form, length and effort; "" when there is nothing to say."""
    parts = []
    tools = offered(generation)
    if tools:
        listed = "\n".join(_json(_function(tool)) for tool in tools)
        how = _MARKED_CALL if marked else _BARE_CALL
        parts.append(f"# Tools\n\nYou may call these functions:\n<tools>\n{listed}\n</tools>\n\n{how}")
    answer_format = generation.response_format
    if tools and answer_format is not None and generation.constrained:
        schema = answer_format.json_schema.text if answer_format.json_schema else "{}"
        parts.append(
            f"When you call no function, answer with JSON of this schema alone:\n"
            f"<answer_schema>\n{_one_line(schema)}\n</answer_schema>"
        )
    if generation.verbosity in _VERBOSITY:
        parts.append(_VERBOSITY[generation.verbosity])
    if generation.reasoning_effort is not None:
        parts.append(f"Reasoning: {generation.reasoning_effort}")
    return "\n\n".join(parts)


def call_body(call: ToolCall) -> str:
    """A call of the past, as ChatML models write it between the markers."""
    return f'{{"name": {_json(call.name)}, "arguments": {call.arguments.text or "{}"}}}'


def bare_call(call: ToolCall) -> str:
    """A call of the past, as Llama 3 models write it."""
    return f'{{"name": {_json(call.name)}, "parameters": {call.arguments.text or "{}"}}}'


def _function(tool: FunctionTool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description.text
    if tool.parameters is not None:
        function["parameters"] = _parsed(tool.parameters.text)
    return {"type": "function", "function": function}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {}


def _one_line(schema: str) -> str:
    return _json(_parsed(schema))


def _json(value: Any) -> str:
    # Angle brackets escaped: a description can forge no tag, and the JSON means the same.
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
