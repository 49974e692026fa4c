"""Writes actions of operators to the audit topic."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from schemas import serde
from schemas.operations import OperatorActed
from schemas.ports import Outgoing, Producer
from schemas.topics import OPERATIONS_AUDIT

BEGUN: Final = "begun"
DONE: Final = "done"
FAILED: Final = "failed"
ACTION_ENTROPY_BYTES: Final = 12


class AuditTrail:
    """The actions of one ``actor``. Nothing is done before the log has that it was begun."""

    def __init__(
        self, producer: Producer, actor: str, entropy: Callable[[int], bytes], now_ms: Callable[[], int]
    ) -> None:
        self._producer = producer
        self._actor = actor
        self._entropy = entropy
        self._now_ms = now_ms

    def begun(
        self, action: str, subject: str, reason: str | None = None, details: Mapping[str, str] | None = None
    ) -> OperatorActed:
        """The event that precedes ``action`` on ``subject``; not written yet. ``details`` hold no content."""
        return OperatorActed(
            action_id=self._entropy(ACTION_ENTROPY_BYTES).hex(),
            actor=self._actor,
            action=action,
            subject=subject,
            outcome=BEGUN,
            reason=reason,
            details=dict(details or {}),
            acted_at_ms=self._now_ms(),
        )

    def ended(
        self, begun: OperatorActed, outcome: str = DONE, details: Mapping[str, str] | None = None
    ) -> OperatorActed:
        """The event that follows it, with ``outcome`` and further ``details``; not written yet."""
        changes = {"outcome": outcome, "details": {**begun.details, **(details or {})}, "acted_at_ms": self._now_ms()}
        return begun.model_copy(update=changes)

    async def write(self, actions: Sequence[OperatorActed], turn_ids: Sequence[str | None] = ()) -> None:
        """Append ``actions``; ``turn_ids``: the turn under which each is found. Raises OutcomeUnknown."""
        turns = turn_ids or [None] * len(actions)
        await self._producer.append([record(each, turn) for each, turn in zip(actions, turns, strict=True)])

    @asynccontextmanager
    async def acting(
        self, action: str, subject: str, reason: str | None = None, details: Mapping[str, str] | None = None
    ) -> AsyncIterator[dict[str, str]]:
        """Audit the body of the ``with``: ``begun`` before it, ``done`` or ``failed`` after it.

        What the body puts into the yielded dict becomes details of the outcome. Raises OutcomeUnknown, before the
        body when its beginning could not be told.
        """
        begun = self.begun(action, subject, reason, details)
        await self.write([begun])
        found: dict[str, str] = {}
        outcome = FAILED
        try:
            yield found
            outcome = DONE
        finally:
            await self.write([self.ended(begun, outcome, found)])


def record(action: OperatorActed, turn_id: str | None = None) -> Outgoing:
    """``action`` as it is appended, keyed by its subject."""
    return Outgoing(
        topic=OPERATIONS_AUDIT.name,
        key=action.subject.encode(),
        value=serde.encode(action),
        headers=serde.event_headers(OPERATIONS_AUDIT, turn_id),
    )
