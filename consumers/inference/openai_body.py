"""The body of a request to an OpenAI-compatible upstream: all that the client asked for, in OpenAI's words. Pure."""

import json
from typing import Any

from consumers.inference.tool_markup import offered
from schemas.content import Content
from schemas.errors import Malformed
from schemas.events import InferenceRequested
from schemas.generation import FunctionTool, Generation, ResponseFormat
from schemas.messages import Message, Role


def request_body(request: InferenceRequested, prefix: str, model: str | None) -> dict[str, Any]:
    """The JSON of one streamed completion; None for ``model`` asks for the model that serves the turn."""
    sampling = request.turn.sampling
    messages = [_message(message) for message in request.prompt.messages]
    body: dict[str, Any] = {
        "model": model or request.served_model or request.turn.model,
        "messages": messages,
        "max_tokens": request.prompt.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body |= sampling.model_dump(exclude_none=True, exclude={"stop"})
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    body |= _generation(request.turn.generation)
    if prefix:
        messages.append({"role": Role.ASSISTANT.value, "content": prefix})
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return body


def _message(message: Message) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role.value, "content": message.content.text}
    if message.name is not None:
        said["name"] = message.name
    if message.tool_call_id is not None:
        said["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        said["content"] = said["content"] or None
        said["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments.text}}
            for call in message.tool_calls
        ]
    return said


def _generation(generation: Generation) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if generation.n > 1:
        body["n"] = generation.n
    if generation.logprobs:
        body |= {"logprobs": True, "top_logprobs": generation.top_logprobs}
    if generation.tools:
        body |= _tools(generation)
    if generation.response_format is not None:
        body["response_format"] = _response_format(generation.response_format)
    hints = {"reasoning_effort": generation.reasoning_effort, "verbosity": generation.verbosity}
    return body | {name: value for name, value in hints.items() if value is not None}


def _tools(generation: Generation) -> dict[str, Any]:
    """Which tools are allowed is said by leaving out the others: all upstreams understand that."""
    choice = generation.tool_choice
    forbidden = choice is not None and choice.mode == "none"
    tools = generation.tools if forbidden else offered(generation)
    body: dict[str, Any] = {"tools": [_tool(tool) for tool in tools]}
    if choice is not None and choice.function is not None:
        body["tool_choice"] = {"type": "function", "function": {"name": choice.function}}
    elif choice is not None:
        body["tool_choice"] = choice.mode
    if generation.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = generation.parallel_tool_calls
    return body


def _tool(tool: FunctionTool) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": _text(tool.description),
        "parameters": _json(tool.parameters),
        "strict": tool.strict,
    }
    return {"type": "function", "function": {name: value for name, value in function.items() if value is not None}}


def _response_format(wanted: ResponseFormat) -> dict[str, Any]:
    if wanted.kind != "json_schema":
        return {"type": wanted.kind}
    schema = {
        "name": wanted.name or "answer",
        "description": _text(wanted.description),
        "schema": _json(wanted.json_schema),
        "strict": wanted.strict,
    }
    return {"type": wanted.kind, wanted.kind: {name: value for name, value in schema.items() if value is not None}}


def _text(content: Content | None) -> str | None:
    return None if content is None else content.text


def _json(content: Content | None) -> Any:
    if content is None:
        return None
    try:
        return json.loads(content.text)
    except ValueError:
        raise Malformed("a schema of the request is no JSON") from None
