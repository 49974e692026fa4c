"""The HTTP heads of answers: quota headers and content types."""

from typing import Final

from schemas.errors import Refusal
from schemas.events import RateLimits

Headers = list[tuple[bytes, bytes]]

_SECOND_MS: Final = 1_000
_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 3_600_000


def stream_headers(limits: RateLimits | None, conversation_id: str | None) -> Headers:
    """Headers of a stream; proxies are told to pass every frame on at once."""
    return [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
        *_conversation(conversation_id),
        *limit_headers(limits),
    ]


def json_headers(body: bytes, limits: RateLimits | None, conversation_id: str | None) -> Headers:
    """Headers of a whole JSON body."""
    return [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *_conversation(conversation_id),
        *limit_headers(limits),
    ]


def refusal_headers(body: bytes, limits: RateLimits | None, refusal: Refusal) -> Headers:
    """Headers of an error body, with ``Retry-After`` where waiting helps."""
    headers = json_headers(body, limits, None)
    if refusal.retry_after_s is not None:
        headers.append((b"retry-after", str(refusal.retry_after_s).encode()))
    if refusal.error.active_turn_id is not None:
        # OpenAI's clients repeat a 409 by themselves; here waiting for the other turn is the client's decision.
        headers.append((b"x-should-retry", b"false"))
    return headers


def limit_headers(limits: RateLimits | None) -> Headers:
    """OpenAI's ``x-ratelimit-*`` headers, or none when no quota was counted."""
    if limits is None:
        return []
    return [
        (b"x-ratelimit-limit-requests", str(limits.limit_requests).encode()),
        (b"x-ratelimit-remaining-requests", str(max(0, limits.remaining_requests)).encode()),
        (b"x-ratelimit-reset-requests", duration(limits.reset_requests_ms).encode()),
        (b"x-ratelimit-limit-tokens", str(limits.limit_tokens).encode()),
        (b"x-ratelimit-remaining-tokens", str(max(0, limits.remaining_tokens)).encode()),
        (b"x-ratelimit-reset-tokens", duration(limits.reset_tokens_ms).encode()),
    ]


def duration(milliseconds: int) -> str:
    """Milliseconds as OpenAI writes a reset: ``12ms``, ``1s``, ``1.5s``, ``6m0s``, ``1h0m0s`` (Go's format)."""
    rest = max(0, milliseconds)
    if 0 < rest < _SECOND_MS:
        return f"{rest}ms"
    hours, rest = divmod(rest, _HOUR_MS)
    minutes, rest = divmod(rest, _MINUTE_MS)
    seconds = f"{rest / _SECOND_MS:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _conversation(conversation_id: str | None) -> Headers:
    return [] if conversation_id is None else [(b"x-conversation-id", conversation_id.encode())]
