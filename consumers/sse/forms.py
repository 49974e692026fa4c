"""Answers in the terms of the API that their client speaks."""

from consumers.sse.chat_chunks import ChunkEncoder
from consumers.sse.chat_objects import completion_body
from consumers.sse.composition import Composition
from consumers.sse.core import Ending, Identity
from consumers.sse.encoding import StreamEncoder
from consumers.sse.response_events import ResponseEncoder
from consumers.sse.response_objects import response_ended, response_json
from schemas.cursors import CursorSigner
from schemas.events import CHAT
from schemas.ports import RestForm


def encoder_of(identity: Identity, form: RestForm, signer: CursorSigner | None) -> StreamEncoder:
    """The encoder of one stream; ``signer`` is for chat completions alone."""
    if form.api == CHAT:
        return ChunkEncoder(
            identity, signer, include_usage=form.include_usage, with_ids=form.with_ids, after=form.after
        )
    return ResponseEncoder(identity, form.after)


def object_of(identity: Identity, answer: Composition, ending: Ending) -> bytes:
    """The whole answer as one object, as JSON."""
    if identity.api == CHAT:
        return completion_body(identity, answer, ending)
    return response_json(response_ended(identity, answer.choice(0), ending))
