"""The part of the HTTP API that a chat needs, over httpx2 and its reader of server-sent events."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx2

# Tokens may be minutes apart on a busy GPU, but the edge sends a heartbeat in between.
READ_SECONDS_MAX: Final = 60.0
CONNECT_SECONDS_MAX: Final = 5.0
FRAME_BYTES_MAX: Final = 1_000_000
HISTORY_MAX: Final = 50

_DONE: Final = "[DONE]"
_OK: Final = 200


class ApiError(Exception):
    """The server said no. ``status`` is None for an error in the middle of a stream."""

    def __init__(self, message: str, status: int | None, code: str | None, retry_after_s: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class AnswerCutError(Exception):
    """The stream ended without its end: the answer may still be finishing on the server."""


@dataclass(frozen=True, slots=True)
class Question:
    """One message of the user. Without ``conversation_id`` it starts a stored conversation."""

    text: str
    model: str
    conversation_id: str | None


@dataclass(frozen=True, slots=True)
class Started:
    """The turn was let through; ``turn_id`` is its public id."""

    turn_id: str
    conversation_id: str | None


@dataclass(frozen=True, slots=True)
class Piece:
    """The next text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The answer is complete and stored. ``completion_tokens`` is None when the server did not say."""

    finish_reason: str | None
    completion_tokens: int | None


@dataclass(frozen=True, slots=True)
class Item:
    """One stored message of a conversation."""

    role: str
    text: str


AnswerPart = Started | Piece | Ended


class ChatApi:
    """Calls of one user. ``client`` has the base URL (ending in ``/v1``) and the key; closing it is the caller's."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client

    def ask(self, question: Question) -> Iterator[AnswerPart]:
        """Stream the answer: one Started, Pieces, one Ended.

        Raises ApiError, AnswerCutError, or a ``httpx2.TransportError``. Closing the iterator ends the request and
        not the turn.
        """
        with self._client.sse(
            "/chat/completions", method="POST", json=_body(question), max_event_size=FRAME_BYTES_MAX
        ) as source:
            if source.response.status_code != _OK:
                source.response.read()
                raise _refusal(source.response)
            headers = source.response.headers
            yield Started(headers.get("x-request-id", ""), headers.get("x-conversation-id"))
            yield from _parts(event.data for event in source)

    def cancel(self, turn_id: str) -> bool:
        """Stop a turn; False when it had already ended. Raises ApiError or ``httpx2.TransportError``."""
        response = self._client.post(f"/chat/completions/{turn_id}/cancel")
        if response.status_code != _OK:
            raise _refusal(response)
        return bool(response.json().get("cancelled"))

    def history(self, conversation_id: str, limit: int = HISTORY_MAX) -> Sequence[Item]:
        """The last ``limit`` messages, oldest first. Raises ApiError or ``httpx2.TransportError``."""
        response = self._client.get(f"/conversations/{conversation_id}/items", params={"limit": limit})
        if response.status_code != _OK:
            raise _refusal(response)
        return [_item(item) for item in reversed(response.json()["data"])]


def open_client(base_url: str, api_key: str) -> httpx2.Client:
    """A client for ``ChatApi``, to be used as a context manager."""
    timeout = httpx2.Timeout(READ_SECONDS_MAX, connect=CONNECT_SECONDS_MAX)
    return httpx2.Client(base_url=base_url, headers={"authorization": f"Bearer {api_key}"}, timeout=timeout)


def _body(question: Question) -> dict[str, Any]:
    where = {"conversation_id": question.conversation_id} if question.conversation_id else {"store": True}
    return {
        "model": question.model,
        "messages": [{"role": "user", "content": question.text}],
        "stream": True,
        "stream_options": {"include_usage": True},
        **where,
    }


def _parts(frames: Iterator[str]) -> Iterator[AnswerPart]:
    finish_reason: str | None = None
    completion_tokens: int | None = None
    for data in frames:
        if data == _DONE:
            yield Ended(finish_reason, completion_tokens)
            return
        chunk = json.loads(data)
        if "error" in chunk:
            raise _error(chunk, None, None)
        for choice in chunk["choices"]:
            if text := choice["delta"].get("content"):
                yield Piece(text)
            finish_reason = "cancelled" if chunk.get("cancelled") else choice["finish_reason"] or finish_reason
        if chunk.get("usage"):
            completion_tokens = chunk["usage"]["completion_tokens"]
    raise AnswerCutError


def _refusal(response: httpx2.Response) -> ApiError:
    try:
        document = response.json()
    except json.JSONDecodeError:
        document = {}
    return _error(document, response.status_code, response.headers.get("retry-after"))


def _error(document: dict[str, Any], status: int | None, retry_after_s: str | None) -> ApiError:
    error = document.get("error") or {}
    message = error.get("message") or f"The server answered {status}."
    return ApiError(message, status, error.get("code"), retry_after_s)


def _item(item: dict[str, Any]) -> Item:
    return Item(item["role"], "".join(part.get("text", "") for part in item["content"]))
