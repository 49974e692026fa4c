"""A turn as OpenAI's chat completion chunks (CreateChatCompletionStreamResponse).

Chunks of plain text are rendered by hand: all of a chunk but its delta is the same for a whole stream, so it is
rendered once, and a chunk costs one escape of its text.
"""

from typing import Any, Final

from pydantic_core import to_json

from consumers.sse.chat_objects import call_delta_json, fixed_fields, logprobs_json, usage_json
from consumers.sse.core import Ending, Identity, Piece
from consumers.sse.encoding import FRAME_END, error_frame, escape, on_one_line
from schemas.cursors import CursorSigner
from schemas.errors import Refusal

DONE: Final = b"data: [DONE]\n\n"


class ChunkEncoder:
    """A ``StreamEncoder``.

    Chunks of the answer and the last one carry a cursor, with which the stream can be resumed behind them; ``with_ids``
    makes it the frame's ``id:`` too. With ``include_usage`` every chunk but the usage itself carries ``usage: null``.
    ``after``: the last delta that the client has, or more; what it has is not encoded again.
    """

    __slots__ = (
        "_after",
        "_before",
        "_choices",
        "_include_usage",
        "_signer",
        "_text_after",
        "_usage_null",
        "_with_ids",
    )

    def __init__(
        self,
        identity: Identity,
        signer: CursorSigner | None,
        *,
        include_usage: bool,
        with_ids: bool = False,
        after: int | None = None,
    ) -> None:
        self._choices = range(identity.choices)
        self._signer = signer
        self._include_usage = include_usage
        self._with_ids = with_ids
        self._after = after
        fixed = to_json(fixed_fields(identity, "chat.completion.chunk"))[:-1]
        usage = b',"usage":null' if include_usage else b""
        self._before = b'data: %b,"choices":[' % fixed
        self._text_after = b'},"logprobs":null,"finish_reason":null}]' + usage
        self._usage_null = usage

    def opening(self) -> bytes:
        """The first chunks: who speaks, in each choice."""
        if self._after is not None:
            return b""
        role = b',"delta":{"role":"assistant","content":"","refusal":null' + self._text_after + b"}" + FRAME_END
        return b"".join([b'%b{"index":%d%b' % (self._before, choice, role) for choice in self._choices])

    def piece(self, piece: Piece) -> bytes:
        """A chunk with the next piece of the answer."""
        if self._after is not None and piece.seq <= self._after:
            return b""
        if piece.choice or piece.tool_calls or piece.logprobs:
            chunk = self._rich(piece)
        else:
            chunk = b'%b{"index":0,"delta":{"content":%b%b' % (self._before, escape(piece.text), self._text_after)
        return self._placed(chunk, piece.seq, piece.offset)

    def ending(self, ending: Ending, deltas: int, offset: int) -> bytes:
        """The chunks with the finish reasons, with ``cancelled`` when the answer was stopped, and the usage."""
        if self._after is not None:
            deltas = max(deltas, self._after)
        last = b"" if self._after is not None and self._after >= deltas else self._last(ending, deltas, offset)
        if self._include_usage and ending.usage is not None:
            last += self._before + b'],"usage":' + to_json(usage_json(ending.usage)) + b"}" + FRAME_END
        return last

    def settled(self) -> bytes:
        """The frame that says that all is there."""
        return DONE

    def failed(self, refusal: Refusal) -> bytes:
        """The error, and no ``[DONE]``."""
        return error_frame(refusal)

    def broken(self, refusal: Refusal) -> bytes:
        """The same."""
        return error_frame(refusal)

    def _last(self, ending: Ending, deltas: int, offset: int) -> bytes:
        cancelled = b"" if ending.cancelled is None else b',"cancelled":' + to_json(ending.cancelled)
        chunks = [
            b'%b{"index":%d,"delta":{},"logprobs":null,"finish_reason":%b}]%b%b'
            % (self._before, choice, to_json(ending.reason_of(choice)), self._usage_null, cancelled)
            for choice in self._choices
        ]
        # The place behind the last of them is the place behind them all.
        early = b"".join(chunk + b"}" + FRAME_END for chunk in chunks[:-1])
        return early + self._placed(chunks[-1], deltas, offset)

    def _rich(self, piece: Piece) -> bytes:
        delta: dict[str, Any] = {}
        if piece.text or not piece.tool_calls:
            delta["content"] = piece.text
        if piece.tool_calls:
            delta["tool_calls"] = [call_delta_json(call) for call in piece.tool_calls]
        rest = on_one_line(to_json({"delta": delta, "logprobs": logprobs_json(piece.logprobs), "finish_reason": None}))
        return b'%b{"index":%d,%b]%b' % (self._before, piece.choice, rest[1:], self._usage_null)

    def _placed(self, chunk: bytes, seq: int, offset: int) -> bytes:
        if self._signer is None:
            return chunk + b"}" + FRAME_END
        cursor = self._signer.sign(seq, offset).encode()
        frame = b'%b,"cursor":"%b"}%b' % (chunk, cursor, FRAME_END)
        return b"id: %b\n%b" % (cursor, frame) if self._with_ids else frame
