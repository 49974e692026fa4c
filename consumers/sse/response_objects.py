"""A turn as OpenAI's ``response`` object and the items of its output. Pure.

What the object shows of the request was written down by whoever read it (``Turn.request``) and is shown as it is.
"""

import json
from typing import Any, Final, Literal

from pydantic_core import to_json

from consumers.sse.chat_objects import logprobs_json
from consumers.sse.composition import ComposedCall, ComposedChoice
from consumers.sse.core import Ending, Identity
from schemas.errors import Refusal
from schemas.events import FinishReason, Usage
from schemas.generation import TokenLogprob

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled", "incomplete"]

# Why an answer is incomplete, in the words of this API.
_INCOMPLETE: Final = {
    FinishReason.LENGTH.value: "max_output_tokens",
    FinishReason.CONTENT_FILTER.value: "content_filter",
}


def response_in_progress(identity: Identity, status: str = "in_progress") -> dict[str, Any]:
    """The object before the answer is complete."""
    return _response(identity, status, [], None)


def response_ended(identity: Identity, answer: ComposedChoice, ending: Ending) -> dict[str, Any]:
    """The object of a turn that ended well, or was stopped."""
    response = _response(identity, status_of(ending), output_items(identity, answer, ending), ending.usage)
    reason = _INCOMPLETE.get(ending.finish_reason)
    if reason is not None and ending.cancelled is None:
        response["incomplete_details"] = {"reason": reason}
    return response


def response_failed(identity: Identity, answer: ComposedChoice, refusal: Refusal) -> dict[str, Any]:
    """The object of a turn that failed."""
    items = output_items(identity, answer, None) if answer.text or answer.calls else []
    response = _response(identity, "failed", items, None)
    response["error"] = {"code": refusal.error.code or "server_error", "message": refusal.error.message}
    return response


def status_of(ending: Ending) -> Status:
    """How the turn ended, in the words of this API."""
    if ending.cancelled is not None:
        return "cancelled"
    return "incomplete" if ending.finish_reason in _INCOMPLETE else "completed"


def output_items(identity: Identity, answer: ComposedChoice, ending: Ending | None) -> list[dict[str, Any]]:
    """The items of the output: what was said, then what is to be called. No ending: it broke off."""
    whole = ending is not None and status_of(ending) == "completed"
    items: list[dict[str, Any]] = []
    if answer.text or not answer.calls:
        items.append(message_item(identity, answer.text, answer.logprobs, "completed" if whole else "incomplete"))
    items += [
        call_item(identity, index, call, "completed" if whole else "incomplete")
        for index, call in sorted(answer.calls.items())
    ]
    return items


def message_item(identity: Identity, text: str, logprobs: list[TokenLogprob], status: str) -> dict[str, Any]:
    """The item of what was said."""
    part = text_part(text, logprobs)
    return {**opened_message(identity), "status": status, "content": [part]}


def opened_message(identity: Identity) -> dict[str, Any]:
    """The item before anything was said."""
    return {
        "id": message_item_id(identity),
        "type": "message",
        "status": "in_progress",
        "role": "assistant",
        "content": [],
    }


def call_item(identity: Identity, index: int, call: ComposedCall, status: str) -> dict[str, Any]:
    """The item of a function that is to be called."""
    return {
        "id": call_item_id(identity, index),
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }


def text_part(text: str, logprobs: list[TokenLogprob]) -> dict[str, Any]:
    """The one part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": part_logprobs(logprobs)}


def part_logprobs(tokens: list[TokenLogprob] | tuple[TokenLogprob, ...]) -> list[Any]:
    """Log probabilities in the shape of a part, which is that of a completion's."""
    shown = logprobs_json(list(tokens))
    return [] if shown is None else list(shown["content"])


def message_item_id(identity: Identity) -> str:
    """The id of the message: the same as in the conversation, if there is one."""
    place = str(identity.answer_seq) if identity.stored else identity.turn_id
    return f"msg_{place}"


def call_item_id(identity: Identity, index: int) -> str:
    """The id of a call's item."""
    place = str(identity.answer_seq) if identity.stored else identity.turn_id
    return f"fc_{place}_{index}"


def response_json(response: dict[str, Any]) -> bytes:
    """The object as a body."""
    return to_json(response)


def _response(identity: Identity, status: str, output: list[Any], usage: Usage | None) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(identity.request) if identity.request is not None else {}
    return {
        "id": identity.public_id,
        "object": "response",
        "created_at": identity.created_s,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": identity.model,
        "output": output,
        "usage": None if usage is None else _usage(usage),
        **shown,
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
