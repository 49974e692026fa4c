"""OpenAI's request body and stream chunks, to and from our terms. Pure."""

import json
from dataclasses import dataclass, replace
from typing import Any, Final

from schemas.errors import Malformed, Retryable
from schemas.events import InferenceRequested
from schemas.messages import Role
from schemas.ports import Generated

DONE: Final = "[DONE]"
_NEVER: Final = frozenset({"invalid_request_error", "authentication_error", "permission_error", "not_found_error"})


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known so far of how the answer ends."""

    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None

    def piece(self) -> Generated:
        """The last piece. Raises Retryable without a reason: the upstream broke off."""
        if self.finish_reason is None:
            raise Retryable("the upstream ended without a finish reason")
        return Generated(
            text="",
            tokens=0,
            finish_reason=self.finish_reason,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
        )


def request_body(request: InferenceRequested, prefix: str, model: str | None) -> dict[str, Any]:
    """The JSON of one streamed completion; None for ``model`` asks for what the client asked for."""
    sampling = request.turn.sampling
    messages = [{"role": message.role.value, "content": message.content.text} for message in request.prompt.messages]
    body: dict[str, Any] = {
        "model": model or request.turn.model,
        "messages": messages,
        "max_tokens": request.prompt.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body |= sampling.model_dump(exclude_none=True, exclude={"stop"})
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if prefix:
        messages.append({"role": Role.ASSISTANT.value, "content": prefix})
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return body


def read_chunk(data: str, end: Ending) -> tuple[Generated | None, Ending]:
    """One chunk: its text, if any (counted as one token), and what is now known of the end.

    Raises Retryable for an error that may pass and for what is no chunk at all; Malformed for a rejection.
    """
    try:
        chunk = json.loads(data)
    except ValueError:
        raise Retryable("the upstream sent a chunk that is no JSON") from None
    if not isinstance(chunk, dict):
        raise Retryable("the upstream sent a chunk that is no object")
    if chunk.get("error"):
        raise _error(chunk["error"])
    end = _with_usage(chunk.get("usage"), end)
    choices = chunk.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None, end
    reason = choices[0].get("finish_reason")
    if isinstance(reason, str):
        end = replace(end, finish_reason=reason)
    content = (choices[0].get("delta") or {}).get("content")
    return (Generated(text=content, tokens=1) if isinstance(content, str) and content else None), end


def _with_usage(usage: Any, end: Ending) -> Ending:
    if not isinstance(usage, dict):
        return end
    details = usage.get("prompt_tokens_details")
    return replace(
        end,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else None,
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _error(error: Any) -> Retryable | Malformed:
    kind = error.get("type") if isinstance(error, dict) else None
    if kind in _NEVER:
        return Malformed("the upstream rejected the request inside the stream")
    return Retryable("the upstream failed inside the stream")
