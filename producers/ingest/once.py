"""Beginning turns: of the requests that bring one key, the first makes a turn and every other joins it."""

import asyncio
from typing import Final, NamedTuple

import structlog

from producers.http.refused import RequestRefused
from producers.ingest.core import IngestSettings, Submission
from producers.ingest.idempotency import KeyHasher, Standing, standing_of
from producers.ingest.ports import IngestPorts
from producers.ingest.submitting import Sender, Submitter
from producers.ingest.turn_request import TurnRequest
from schemas import ids
from schemas.accounts import Account
from schemas.errors import Retryable, idempotency_mismatch
from schemas.ports import AnswerReader, TurnClaim

_LOG: Final = structlog.get_logger(__name__)
_JOINED: Final = "turnstream_turns_joined_total"


class Asker(NamedTuple):
    """Who sends a request, and under which key."""

    sender: Sender
    account: Account
    key: str


class Begun(NamedTuple):
    """A turn that is on the log, and the view from which its answer is written. ``joined``: not by this request."""

    submission: Submission
    reader: AnswerReader
    joined: bool


class OnceOnly:
    """One turn per user and key, whichever edges its requests reach and whoever dies between."""

    def __init__(self, ports: IngestPorts, settings: IngestSettings, submitter: Submitter, hasher: KeyHasher) -> None:
        self._ports = ports
        self._settings = settings
        self._submitter = submitter
        self._hasher = hasher

    async def begin(self, request: TurnRequest, asker: Asker) -> Begun:
        """The one turn of the key, submitted. The caller closes its reader.

        Raises RequestRefused, and Retryable: then the same request finds out what became of it.
        """
        claims = self._ports.claims
        fresh = self._submitter.draft(request, asker.sender)
        turn = fresh.event.turn
        wanted = TurnClaim(turn.turn_id, turn.conversation_id, turn.tokens_from or 0, self._hasher.request(request))
        scope = self._hasher.scope(asker.account, asker.key)
        held = await claims.claim(scope, wanted)
        for _ in range(self._settings.claim_tries_max):
            if held.turn_id == wanted.turn_id:
                return await self._first(fresh, asker.sender)
            if held.request_hash != wanted.request_hash:
                self._ports.metrics.count(_JOINED, outcome="mismatch")
                raise RequestRefused(idempotency_mismatch())
            standing = await self._standing(held.turn_id)
            if standing is not Standing.EMPTY:
                return await self._join(request, asker, held, seen=standing is Standing.ANSWERED)
            self._ports.metrics.count(_JOINED, outcome="retaken")
            held = await claims.replace(scope, held.turn_id, wanted)
        raise Retryable("turn after turn of one idempotency key ended without an answer")

    async def _standing(self, turn_id: str) -> Standing:
        state = self._ports.states.state(turn_id) or await self._ports.lookup.find(turn_id)
        standing = standing_of(state)
        if standing is Standing.UNSEEN and self._age_s(turn_id) > self._settings.turn_seconds_max:
            # Its deadline is over: should it still lie on a topic, it will be refused there.
            return Standing.EMPTY
        return standing

    async def begin_new(self, request: TurnRequest, sender: Sender) -> Begun:
        """The turn of a request without a key, submitted. Raises RequestRefused, OutcomeUnknown."""
        return await self._first(self._submitter.draft(request, sender), sender)

    async def _first(self, fresh: Submission, sender: Sender) -> Begun:
        reader = self._ports.readers.open(fresh.event.turn.turn_id)
        try:
            await self._submitter.submit(fresh.event, sender.traceparent)
        except BaseException:
            reader.close()
            raise
        return Begun(fresh, reader, joined=False)

    async def _join(self, request: TurnRequest, asker: Asker, held: TurnClaim, *, seen: bool) -> Begun:
        submission = self._submitter.rebuild(request, asker.sender, held)
        reader = await self._ports.readers.follow(held.turn_id)
        outcome = "joined"
        try:
            if not seen and not await self._appears(held.turn_id, reader):
                # A doubled submission is harmless: the log counts one clearance and one owner of a turn.
                await self._submitter.submit(submission.event, asker.sender.traceparent)
                outcome = "resubmitted"
        except BaseException:
            reader.close()
            raise
        self._ports.metrics.count(_JOINED, outcome=outcome)
        _LOG.info("turn_joined", turn_id=held.turn_id, outcome=outcome)
        return Begun(submission, reader, joined=True)

    async def _appears(self, turn_id: str, reader: AnswerReader) -> bool:
        """Whether a record of the turn shows up while whoever claimed it may still be about to submit it."""
        loop = asyncio.get_running_loop()
        limit_s = self._settings.claim_evidence_seconds_max
        until_s = loop.time() + min(limit_s, max(0.0, limit_s - self._age_s(turn_id)))
        while not await reader.wait(max(0.0, until_s - loop.time())):
            if loop.time() >= until_s:
                return False
        return True

    def _age_s(self, turn_id: str) -> float:
        return (self._ports.now_ms() - ids.turn_time_ms(turn_id)) / 1000
