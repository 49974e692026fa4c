"""What a dead letter becomes when it goes back to its topic. Pure.

A record of a turn's way (submitted .. inference requests) cannot go back as it was: burying it has ended its turn with
``Failed``, and nothing counts after a terminal. So the turn is asked again under a new id: of the same home partition,
of the time at which the first redrive was begun, and with entropy from the old id and the letter's origin. Everything
else on the topics of dead letters goes back unchanged: its readers know it by its turn and count it once.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import to_json

from producers.redrive.letters import Letter
from producers.redrive.mending import Mending, parse_document
from producers.redrive.states import Rebirth
from schemas import headers, serde
from schemas.accounts import Account
from schemas.errors import Malformed
from schemas.events import InferenceRequested, RateLimits, Turn
from schemas.headers import Headers, header
from schemas.ids import TURN_ENTROPY_BYTES, new_turn_id, parse_turn_id, turn_partition, turn_time_ms
from schemas.ports import Outgoing, Owner
from schemas.tokens import Cleared
from schemas.topics import (
    INFERENCE_REQUESTS,
    MAX_RECORD_BYTES,
    TOKENS,
    TURNS_ADMITTED,
    TURNS_AUTHORIZED,
    TURNS_PROMPTED,
    TURNS_SUBMITTED,
)

TURN_TOPICS: Final = frozenset(
    topic.name
    for topic in (TURNS_SUBMITTED, TURNS_AUTHORIZED, TURNS_ADMITTED, TURNS_PROMPTED, *INFERENCE_REQUESTS.values())
)
_NOT_KEPT: Final = frozenset(
    (
        headers.DLQ_TOPIC,
        headers.DLQ_PARTITION,
        headers.DLQ_OFFSET,
        headers.DLQ_STAGE,
        headers.DLQ_ERROR,
        headers.ATTEMPT,
        headers.CARRIED,
        headers.REDRIVE,
    )
)
# Nobody is left to whom they would be shown.
_NO_LIMITS: Final = RateLimits(
    limit_requests=0,
    remaining_requests=0,
    reset_requests_ms=0,
    limit_tokens=0,
    remaining_tokens=0,
    reset_tokens_ms=0,
)


class CannotRedriveError(Exception):
    """The letter cannot go back; the message says why and what can be done, without content."""


@dataclass(frozen=True, slots=True, repr=False)
class Candidate:
    """A letter that its topic would take. ``turn`` and ``old_turn_id`` are None for what goes back unchanged.

    ``document`` is the JSON of ``value``, ``event`` what it says.
    """

    letter: Letter
    value: bytes
    mended: bool
    event: Any
    document: Any = None
    turn: Turn | None = None
    old_turn_id: str | None = None

    @property
    def account(self) -> Account | None:
        """Whose turn it is, once auth has said so."""
        return getattr(self.event, "account", None)

    @property
    def owner(self) -> Owner | None:
        """The account's user."""
        account = self.account
        return None if account is None else Owner(account.tenant_id, account.user_id)

    @property
    def lane(self) -> str | None:
        """The conversation in which nothing else may run beside it; None when it need not wait for anything."""
        turn = self.turn
        return turn.conversation_id if turn is not None and turn.stored and not turn.concurrent else None


def examine(letter: Letter, mending: Mending) -> Candidate:
    """The letter as its topic would take it. Raises CannotRedriveError."""
    record, topic = letter.record, letter.topic
    if headers.is_replayed(record.headers):
        raise CannotRedriveError("it belongs to a shadow run, which has no effects")
    try:
        if not mending.changes:
            serde.check_schema(topic, record.headers)
        value = mending.apply(record.value)
        event = serde.decode(topic, value)
        if topic.name not in TURN_TOPICS:
            return Candidate(letter, value, mending.changes, event)
        document = parse_document(value)
    except Malformed as malformed:
        raise CannotRedriveError(str(malformed)) from None
    old = letter.turn_id or _turn_id(event.turn)
    return Candidate(letter, value, mending.changes, event, document, event.turn, old)


def rebirth(candidate: Candidate, begun_at_ms: int, tokens_from: int) -> Rebirth | None:
    """The turn as which a turn is asked again, if its redrive begins now; None for what goes back unchanged."""
    old = candidate.old_turn_id
    if old is None:
        return None
    digest = hashlib.sha256(f"{old} {candidate.letter.origin}".encode()).digest()
    return Rebirth(new_turn_id(begun_at_ms, turn_partition(old), digest[:TURN_ENTROPY_BYTES]), tokens_from)


def unchanged(candidate: Candidate) -> Outgoing:
    """The record as it was, on its topic; one of the answer in the partition that it was in."""
    letter = candidate.letter
    partition = letter.origin.partition if letter.topic is TOKENS else None
    written = _headers(letter, letter.turn_id, mended=candidate.mended)
    return Outgoing(letter.topic.name, letter.record.key or b"", candidate.value, written, partition)


def asked_again(candidate: Candidate, turn: Rebirth, now_ms: int, allowance_ms_max: int) -> Outgoing:
    """The record of a turn under its new id, with as much time from now on as it had, at most ``allowance_ms_max``.

    Raises CannotRedriveError when it has grown too large.
    """
    old = candidate.turn
    if old is None:
        raise ValueError("this letter is of no turn")
    allowance_ms = old.deadline_ms - old.submitted_at_ms
    document = dict(candidate.document)
    document["turn"] = {
        **document["turn"],
        "turn_id": turn.turn_id,
        "submitted_at_ms": turn_time_ms(turn.turn_id),
        "deadline_ms": now_ms + (allowance_ms if 0 < allowance_ms <= allowance_ms_max else allowance_ms_max),
        "tokens_from": turn.tokens_from,
    }
    topic, value = candidate.letter.topic, to_json(document)
    if len(value) > MAX_RECORD_BYTES:
        raise CannotRedriveError("it is larger than a record of its topic may be")
    written = _headers(candidate.letter, turn.turn_id, mended=True)
    return Outgoing(topic.name, old.conversation_id.encode(), value, written)


def is_cleared(candidate: Candidate) -> bool:
    """Whether moderation has let the turn pass before its record died."""
    return isinstance(candidate.event, InferenceRequested)


def cleared_again(candidate: Candidate, turn: Rebirth, original: Cleared | None) -> Outgoing | None:
    """The clearance of the new turn where moderation will not write it; None for every stage before inference.

    ``original``: the old turn's, which alone knows the account's limits and after which message the turn comes.
    """
    event = candidate.event
    if not isinstance(event, InferenceRequested):
        return None
    stored_here = event.turn.stored and event.turn.answers_seq is None
    cleared = Cleared(
        turn_id=turn.turn_id,
        conversation_id=event.turn.conversation_id,
        tenant_id=event.account.tenant_id,
        user_id=event.account.user_id,
        model=event.served_model or event.turn.model,
        stored=event.turn.stored,
        message_seq=event.message_seq,
        submitted_at_ms=turn_time_ms(turn.turn_id),
        limits=_NO_LIMITS if original is None else original.limits,
        input=event.prompt.messages[-event.prompt.input_count :] if stored_here else (),
        api=event.turn.api,
        request=event.turn.request,
        parent_seq=event.turn.parent_seq if original is None else original.parent_seq,
        answers_seq=event.turn.answers_seq,
        choices=event.turn.generation.n,
        wants_answer=event.turn.wants_answer,
    )
    traceparent = header(candidate.letter.record.headers, headers.TRACEPARENT)
    written = (
        *serde.event_headers(TOKENS, turn.turn_id, traceparent),
        (headers.REDRIVE, str(candidate.letter.place).encode()),
    )
    return Outgoing(TOKENS.name, turn.turn_id.encode(), serde.encode(cleared), written, turn_partition(turn.turn_id))


def _headers(letter: Letter, turn_id: str | None, *, mended: bool) -> Headers:
    """Those of the letter without what its burial added; one that was mended has its topic's schema."""
    replaced = {headers.TURN} if turn_id is not None else set[str]()
    if mended:
        replaced.add(headers.SCHEMA)
    kept = tuple(pair for pair in letter.record.headers if pair[0] not in _NOT_KEPT | replaced)
    fresh = headers.make_headers(
        (
            (headers.SCHEMA, letter.topic.name if mended else None),
            (headers.TURN, turn_id),
            (headers.REDRIVE, str(letter.place)),
        )
    )
    return fresh + kept


def _turn_id(turn: Turn) -> str:
    try:
        return parse_turn_id(turn.turn_id)
    except ValueError:
        raise CannotRedriveError("turn.turn_id is not a turn id, and no header names the turn: mend it") from None
