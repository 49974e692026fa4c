"""A turn that only the store remembers: the frames that the log gave, or its object, from the pieces that were kept."""

import json
from typing import Final

from pydantic_core import to_json

from consumers.sse.composition import Composition
from consumers.sse.core import Identity, Piece, SseSettings, ending_of_stored, identity_of
from consumers.sse.forms import encoder_of, object_of
from consumers.sse.response_objects import response_failed, response_json
from schemas.cursors import CursorSigner
from schemas.errors import Refusal
from schemas.events import Api
from schemas.ports import RestForm, StoredAnswer

# The log has forgotten where the records lay; a cursor of such a place resumes by its sequence.
_NO_OFFSET: Final = 0


def stored_stream(stored: StoredAnswer, settings: SseSettings, cursor_key: bytes, form: RestForm) -> bytes:
    """The body of the resumed stream, from what comes after the wanted place, or from the start."""
    signer = CursorSigner(cursor_key, stored.turn_id, stored.tenant_id, stored.user_id)
    frames = encoder_of(_identity(stored, settings, form.api), form, signer)
    body = [frames.opening(), *(frames.piece(piece) for piece in _pieces(stored))]
    ending = ending_of_stored(stored)
    if isinstance(ending, Refusal):
        body.append(frames.failed(ending))
    else:
        body += [frames.ending(ending, len(stored.pieces), _NO_OFFSET), frames.settled()]
    return b"".join(body)


def stored_object(stored: StoredAnswer, settings: SseSettings) -> bytes:
    """The answer as one object, as JSON."""
    identity = _identity(stored, settings, None)
    answer = Composition(_pieces(stored))
    ending = ending_of_stored(stored)
    if isinstance(ending, Refusal):
        return response_json(response_failed(identity, answer.choice(0), ending))
    return object_of(identity, answer, ending)


def _pieces(stored: StoredAnswer) -> list[Piece]:
    return [
        Piece(piece.text, seq, _NO_OFFSET, piece.choice, piece.tool_calls, piece.logprobs)
        for seq, piece in enumerate(stored.pieces)
    ]


def _identity(stored: StoredAnswer, settings: SseSettings, api: Api | None) -> Identity:
    identity = identity_of(stored, settings, api)
    if stored.metadata is None:
        return identity
    shown = json.loads(identity.request or "{}") | {"metadata": dict(stored.metadata)}
    return identity._replace(request=to_json(shown).decode())
