"""A turn as OpenAI's ``chat.completion`` (CreateChatCompletionResponse), and what its chunks share with it."""

import json
from typing import Any, Final

from pydantic_core import to_json

from consumers.sse.composition import ComposedChoice, Composition
from consumers.sse.core import Ending, Identity
from schemas.events import Usage
from schemas.generation import TokenLogprob, ToolCallDelta

_COMPLETION: Final = "chat.completion"


def completion_body(identity: Identity, answer: Composition, ending: Ending) -> bytes:
    """The whole answer, as JSON."""
    return to_json(completion(identity, answer, ending))


def completion(identity: Identity, answer: Composition, ending: Ending) -> dict[str, Any]:
    """The whole answer; a stored one with what it shows of its request."""
    body = fixed_fields(identity, _COMPLETION)
    body["choices"] = [
        _choice(index, answer.choice(index), ending.reason_of(index)) for index in range(identity.choices)
    ]
    body["usage"] = None if ending.usage is None else usage_json(ending.usage)
    if identity.request is not None:
        body |= json.loads(identity.request)
    if ending.cancelled is not None:
        body["cancelled"] = ending.cancelled
    return body


def fixed_fields(identity: Identity, kind: str) -> dict[str, Any]:
    """What is the same in every chunk and object of one turn."""
    fixed: dict[str, Any] = {
        "id": identity.public_id,
        "object": kind,
        "created": identity.created_s,
        "model": identity.model,
        "system_fingerprint": identity.system_fingerprint,
        "service_tier": "default",
    }
    if identity.conversation_id is not None:
        fixed["conversation_id"] = identity.conversation_id
    return fixed


def usage_json(usage: Usage) -> dict[str, Any]:
    """OpenAI's CompletionUsage."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def logprobs_json(tokens: tuple[TokenLogprob, ...] | list[TokenLogprob]) -> dict[str, Any] | None:
    """OpenAI's log probabilities of some tokens; ``bytes`` are those of the token in UTF-8."""
    if not tokens:
        return None
    content = [
        {
            **_token(token.token.text, token.logprob),
            "top_logprobs": [_token(other.token.text, other.logprob) for other in token.top],
        }
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def call_delta_json(delta: ToolCallDelta) -> dict[str, Any]:
    """A piece of a tool call in a chunk."""
    arguments = "" if delta.arguments is None else delta.arguments.text
    if delta.id is None:
        return {"index": delta.index, "function": {"arguments": arguments}}
    function = {"name": delta.name, "arguments": arguments}
    return {"index": delta.index, "id": delta.id, "type": "function", "function": function}


def _choice(index: int, choice: ComposedChoice, reason: str) -> dict[str, Any]:
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for _, call in sorted(choice.calls.items())
    ]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if calls and not choice.text else choice.text,
        "refusal": None,
        "annotations": [],
    }
    if calls:
        message["tool_calls"] = calls
    return {
        "index": index,
        "message": message,
        "logprobs": logprobs_json(choice.logprobs),
        "finish_reason": reason,
    }


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
