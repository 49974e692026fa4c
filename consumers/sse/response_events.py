"""A turn as OpenAI's typed response events, numbered from 0 without a gap (ResponseStreamEvent).

Items open and close as the pieces come: the message with the first text, a call with its first piece. The last event
holds the whole response, so the encoder keeps what was said.
"""

from typing import Any, Final

from pydantic_core import to_json

from consumers.sse.composition import ComposedChoice
from consumers.sse.core import Ending, Identity, Piece
from consumers.sse.encoding import FRAME_END, on_one_line
from consumers.sse.response_objects import (
    call_item,
    call_item_id,
    message_item,
    message_item_id,
    opened_message,
    part_logprobs,
    response_ended,
    response_failed,
    response_in_progress,
    status_of,
    text_part,
)
from schemas.errors import Refusal
from schemas.generation import ToolCallDelta

_MESSAGE: Final = -1
_LAST: Final = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    # There is no event of that name; its response says ``cancelled``.
    "cancelled": "response.incomplete",
}


class ResponseEncoder:
    """A ``StreamEncoder``. ``after``: the number of the last event that the client has."""

    def __init__(self, identity: Identity, after: int | None = None) -> None:
        self._identity = identity
        self._after = -1 if after is None else after
        self._next = 0
        self._answer = ComposedChoice()
        # The items in the order of their opening; the last one is open until ``_open`` is None.
        self._items: list[int] = []
        self._open: int | None = None
        self._ending: Ending | None = None

    def opening(self) -> bytes:
        """The response as it begins."""
        response = response_in_progress(self._identity)
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def piece(self, piece: Piece) -> bytes:
        """The next piece of the message, or of the calls."""
        if piece.choice:
            return b""
        self._answer.add(piece)
        frames = b""
        if piece.text:
            frames += self._enter(_MESSAGE) + self._event(
                "response.output_text.delta",
                **self._place(_MESSAGE),
                content_index=0,
                delta=piece.text,
                logprobs=part_logprobs(piece.logprobs),
            )
        return frames + b"".join(self._call(delta) for delta in piece.tool_calls)

    def ending(self, ending: Ending, deltas: int, offset: int) -> bytes:
        """The item that is open is complete, as far as it goes."""
        del deltas, offset
        self._ending = ending
        # An answer without a word is an empty message.
        opened = b"" if self._items else self._enter(_MESSAGE)
        return opened + self._close()

    def settled(self) -> bytes:
        """The whole response, now that its conversation has it."""
        if self._ending is None:
            return b""
        response = response_ended(self._identity, self._answer, self._ending)
        return self._event(_LAST[status_of(self._ending)], response=response)

    def failed(self, refusal: Refusal) -> bytes:
        """The response as it failed."""
        return self._event("response.failed", response=response_failed(self._identity, self._answer, refusal))

    def broken(self, refusal: Refusal) -> bytes:
        """An error, which has no number: the event that the view lacks has the next one."""
        error = refusal.error
        told = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
        return _frame("error", {**told, "sequence_number": self._next})

    def _call(self, delta: ToolCallDelta) -> bytes:
        frames = self._enter(delta.index)
        if delta.arguments is None or not delta.arguments.text:
            return frames
        return frames + self._event(
            "response.function_call_arguments.delta", **self._place(delta.index), delta=delta.arguments.text
        )

    def _enter(self, item: int) -> bytes:
        """Open ``item``, unless it is; whatever else is open is complete."""
        if self._open == item or item in self._items:
            return b""
        frames = self._close()
        self._open = item
        self._items.append(item)
        if item != _MESSAGE:
            call = call_item(self._identity, item, self._answer.calls[item], "in_progress") | {"arguments": ""}
            return frames + self._event("response.output_item.added", output_index=self._items.index(item), item=call)
        added = self._event(
            "response.output_item.added", output_index=self._items.index(item), item=opened_message(self._identity)
        )
        part = self._event("response.content_part.added", **self._place(item), content_index=0, part=text_part("", []))
        return frames + added + part

    def _close(self) -> bytes:
        item, self._open = self._open, None
        if item is None:
            return b""
        return self._close_message() if item == _MESSAGE else self._close_call(item)

    def _close_message(self) -> bytes:
        answer, place = self._answer, self._place(_MESSAGE)
        done = message_item(self._identity, answer.text, answer.logprobs, self._closed_status())
        return (
            self._event(
                "response.output_text.done",
                **place,
                content_index=0,
                text=answer.text,
                logprobs=part_logprobs(answer.logprobs),
            )
            + self._event("response.content_part.done", **place, content_index=0, part=done["content"][0])
            + self._event("response.output_item.done", output_index=place["output_index"], item=done)
        )

    def _close_call(self, index: int) -> bytes:
        call, place = self._answer.calls[index], self._place(index)
        done = call_item(self._identity, index, call, self._closed_status())
        return self._event(
            "response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments
        ) + self._event("response.output_item.done", output_index=place["output_index"], item=done)

    def _closed_status(self) -> str:
        whole = self._ending is None or status_of(self._ending) == "completed"
        return "completed" if whole else "incomplete"

    def _place(self, item: int) -> dict[str, Any]:
        item_id = message_item_id(self._identity) if item == _MESSAGE else call_item_id(self._identity, item)
        return {"item_id": item_id, "output_index": self._items.index(item)}

    def _event(self, kind: str, **fields: Any) -> bytes:
        number, self._next = self._next, self._next + 1
        if number <= self._after:
            return b""
        return _frame(kind, {"type": kind, "sequence_number": number, **fields})


def _frame(kind: str, event: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b%b" % (kind.encode(), on_one_line(to_json(event)), FRAME_END)
