"""Changes of accounts on the log, where every process hears them."""

from collections.abc import Callable

from producers.ingest.traceparent import TRACE_ENTROPY_BYTES, accept_traceparent
from schemas import serde
from schemas.accounts import AccountChanged
from schemas.ports import Outgoing, Producer
from schemas.topics import ACCOUNT_CHANGES


class AccountChangeLog:
    """The port ``AccountChanges`` on the log. A change that is published twice says nothing new."""

    def __init__(self, producer: Producer, entropy: Callable[[int], bytes]) -> None:
        self._producer = producer
        self._entropy = entropy

    async def publish(self, change: AccountChanged) -> None:
        """Append ``change``. Raises OutcomeUnknown."""
        trace = accept_traceparent(None, self._entropy(TRACE_ENTROPY_BYTES))
        record = Outgoing(
            topic=ACCOUNT_CHANGES.name,
            key=change.subject_id.encode(),
            value=serde.encode(change),
            headers=serde.event_headers(ACCOUNT_CHANGES, change.subject_id, trace),
        )
        await self._producer.append([record])
