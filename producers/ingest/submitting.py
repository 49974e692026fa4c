"""Giving a request its names, and putting it on the log."""

from typing import Final, NamedTuple

import structlog

from producers.ingest.core import Arrival, IngestSettings, Submission, accept
from producers.ingest.ports import IngestPorts
from producers.ingest.queue_forecast import QueueForecast
from producers.ingest.traceparent import TRACE_ENTROPY_BYTES, accept_traceparent
from producers.ingest.turn_request import TurnRequest
from schemas import ids, serde
from schemas.accounts import Credential
from schemas.errors import OutcomeUnknown, RecordTooLarge
from schemas.events import TurnSubmitted
from schemas.models import Catalogue
from schemas.ports import Outgoing, TurnClaim
from schemas.topics import TURNS_SUBMITTED

_LOG: Final = structlog.get_logger(__name__)


class Sender(NamedTuple):
    """Who sends a request and, as far as that is known, from where (``producers.http.origins``)."""

    credential: Credential
    traceparent: str | None = None
    origin: str | None = None


class Submitter:
    """Turns of this edge, from their request to the log."""

    def __init__(self, ports: IngestPorts, settings: IngestSettings, forecast: QueueForecast) -> None:
        self._ports = ports
        self._settings = settings
        self._catalogue = Catalogue.of(settings.models)
        self._forecast = forecast

    def draft(self, request: TurnRequest, sender: Sender) -> Submission:
        """A new turn, which nobody knows yet. Raises RequestRefused."""
        ports = self._ports
        partition, now_ms = ports.readers.home_partition(), ports.now_ms()
        # The kernel is asked once: that costs more than what the bytes are for.
        entropy = ports.entropy(ids.TURN_ENTROPY_BYTES + ids.CONVERSATION_ENTROPY_BYTES)
        arrival = Arrival(
            now_ms=now_ms,
            turn_id=ids.new_turn_id(now_ms, partition, entropy[: ids.TURN_ENTROPY_BYTES]),
            conversation_id=ids.new_conversation_id(now_ms, entropy[ids.TURN_ENTROPY_BYTES :]),
            tokens_from=ports.readers.position(partition),
            origin=sender.origin,
        )
        return accept(request, sender.credential, arrival, self._settings, self._catalogue)

    def rebuild(self, request: TurnRequest, sender: Sender, claim: TurnClaim) -> Submission:
        """The turn that ``claim`` stands for, as it was made from the same request. Raises RequestRefused."""
        arrival = Arrival(self._ports.now_ms(), claim.turn_id, claim.conversation_id, claim.tokens_from, sender.origin)
        return accept(request, sender.credential, arrival, self._settings, self._catalogue)

    async def submit(self, event: TurnSubmitted, traceparent: str | None) -> None:
        """Put ``event`` on the log. Raises OutcomeUnknown, RecordTooLarge."""
        turn = event.turn
        trace = accept_traceparent(traceparent, self._ports.entropy(TRACE_ENTROPY_BYTES))
        record = Outgoing(
            topic=TURNS_SUBMITTED.name,
            key=turn.conversation_id.encode(),
            value=serde.encode(event),
            headers=serde.event_headers(TURNS_SUBMITTED, turn.turn_id, trace),
        )
        self._forecast.enter(turn.turn_id, self._ports.monotonic_s())
        try:
            await self._ports.producer.append([record])
        except (OutcomeUnknown, RecordTooLarge):
            self._forecast.leave(turn.turn_id)
            raise
        _LOG.info("turn_submitted", turn_id=turn.turn_id, model=turn.model, stored=turn.stored)
