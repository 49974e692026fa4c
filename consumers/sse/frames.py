"""A turn as OpenAI's chat completion: chunks of a stream (CreateChatCompletionStreamResponse), or one object.

Chunks are rendered by hand: all of a chunk but its delta is the same for a whole stream, so it is rendered
once, and a chunk costs one escape of its text.
"""

from typing import Any, Final

from pydantic_core import to_json

from consumers.sse.core import Ending, Identity, Piece
from schemas.cursors import CursorSigner
from schemas.errors import Refusal
from schemas.events import Usage

PING: Final = b": ping\n\n"
DONE: Final = b"data: [DONE]\n\n"

_END: Final = b"\n\n"
# JSON allows these raw, but some SSE readers take them for line ends, as str.splitlines does.
_LINE_ENDS: Final = (("\u0085", b"\\u0085"), ("\u2028", b"\\u2028"), ("\u2029", b"\\u2029"))
_RAW_LINE_ENDS: Final = tuple((character.encode(), escaped) for character, escaped in _LINE_ENDS)


class ChunkEncoder:
    """Encodes the frames of one stream; each result is one complete SSE frame.

    Chunks of text and the last one carry a cursor, with which the stream can be resumed behind them; ``with_ids``
    makes it the frame's ``id:`` too. With ``include_usage`` every chunk but the usage itself carries ``usage: null``.
    """

    def __init__(
        self,
        identity: Identity,
        signer: CursorSigner | None,
        *,
        include_usage: bool,
        with_ids: bool = False,
    ) -> None:
        fixed = to_json(_fixed(identity, "chat.completion.chunk"))[:-1]
        usage = b',"usage":null' if include_usage else b""
        open_choice = b'data: %b,"choices":[{"index":0,"delta":' % fixed
        self._signer = signer
        self._with_ids = with_ids
        self._text_before = open_choice + b'{"content":'
        self._text_after = b'},"logprobs":null,"finish_reason":null}]%b' % usage
        self._role = open_choice + b'{"role":"assistant","content":"","refusal":null' + self._text_after + b"}" + _END
        self._last_before = open_choice + b'{},"logprobs":null,"finish_reason":'
        self._last_after = b"}]" + usage
        self._usage_before = b'data: %b,"choices":[],"usage":' % fixed

    def role(self) -> bytes:
        """The first chunk: who speaks."""
        return self._role

    def text(self, piece: Piece) -> bytes:
        """A chunk with the next piece of the answer."""
        return self._placed(self._text_before + _escape(piece.text) + self._text_after, piece.seq, piece.offset)

    def last(self, ending: Ending, deltas: int, offset: int) -> bytes:
        """The chunk with the finish reason, and with ``cancelled`` when the answer was stopped."""
        cancelled = b"" if ending.cancelled is None else b',"cancelled":' + to_json(ending.cancelled)
        chunk = self._last_before + to_json(ending.finish_reason) + self._last_after + cancelled
        return self._placed(chunk, deltas, offset)

    def usage(self, usage: Usage) -> bytes:
        """The chunk after the last: usage, and no choice."""
        return self._usage_before + to_json(_usage(usage)) + b"}" + _END

    def _placed(self, chunk: bytes, seq: int, offset: int) -> bytes:
        if self._signer is None:
            return chunk + b"}" + _END
        cursor = self._signer.sign(seq, offset).encode()
        frame = b'%b,"cursor":"%b"}%b' % (chunk, cursor, _END)
        return b"id: %b\n%b" % (cursor, frame) if self._with_ids else frame


def reconnect_frame(milliseconds: int) -> bytes:
    """Tells an EventSource how long to wait before it comes back."""
    return b"retry: %d\n\n" % milliseconds


def error_frame(refusal: Refusal) -> bytes:
    """The frame that ends a broken stream; openai-python raises APIError on it."""
    return b"data: " + error_body(refusal) + _END


def error_body(refusal: Refusal) -> bytes:
    """OpenAI's error object with all four keys, as JSON."""
    return to_json({"error": refusal.error})


def completion_body(identity: Identity, text: str, ending: Ending) -> bytes:
    """The whole answer as one ``chat.completion`` object (CreateChatCompletionResponse), as JSON."""
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": ending.finish_reason}
    body = _fixed(identity, "chat.completion")
    body["choices"] = [choice]
    body["usage"] = None if ending.usage is None else _usage(ending.usage)
    if ending.cancelled is not None:
        body["cancelled"] = ending.cancelled
    return to_json(body)


def _fixed(identity: Identity, kind: str) -> dict[str, Any]:
    fixed: dict[str, Any] = {
        "id": identity.public_id,
        "object": kind,
        "created": identity.created_s,
        "model": identity.model,
        "system_fingerprint": identity.system_fingerprint,
    }
    if identity.conversation_id is not None:
        fixed["conversation_id"] = identity.conversation_id
    return fixed


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _escape(text: str) -> bytes:
    escaped = to_json(text)
    if not text.isascii():
        for raw, replacement in _RAW_LINE_ENDS:
            escaped = escaped.replace(raw, replacement)
    return escaped
