"""The stream of a turn that only the store remembers: the frames that the log gave, from the pieces that were kept."""

from consumers.sse.core import Ending, Piece, SseSettings, ending_of_stored, identity_of
from consumers.sse.frames import DONE, ChunkEncoder, error_frame
from schemas.cursors import CursorSigner
from schemas.errors import Refusal
from schemas.ports import StoredAnswer

# The log has forgotten where the records lay; a cursor of such a place resumes by its sequence.
_NO_OFFSET = 0


def stored_stream(
    stored: StoredAnswer, settings: SseSettings, cursor_key: bytes, *, after: int | None, include_usage: bool
) -> bytes:
    """The body of the resumed stream, from what comes after the delta ``after``, or from the start."""
    signer = CursorSigner(cursor_key, stored.turn_id, stored.tenant_id, stored.user_id)
    frames = ChunkEncoder(identity_of(stored, settings), signer, include_usage=include_usage, with_ids=True)
    body = [] if after is not None else [frames.role()]
    first = 0 if after is None else after + 1
    body += [frames.text(Piece(text, seq, _NO_OFFSET)) for seq, text in enumerate(stored.pieces) if seq >= first]
    ending = ending_of_stored(stored)
    if isinstance(ending, Refusal):
        return b"".join([*body, error_frame(ending)])
    if first <= len(stored.pieces):
        body.append(frames.last(ending, len(stored.pieces), _NO_OFFSET))
    return b"".join([*body, _usage(frames, ending, include_usage=include_usage), DONE])


def _usage(frames: ChunkEncoder, ending: Ending, *, include_usage: bool) -> bytes:
    return frames.usage(ending.usage) if include_usage and ending.usage is not None else b""
