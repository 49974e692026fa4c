"""The ports of the stages without their effects: what a shadow run asks is answered, what it would change is not."""

from collections.abc import Mapping, Sequence

from schemas.accounts import Account
from schemas.limits import LimitWindow
from schemas.metrics import Counter, Gauge, Histogram
from schemas.plans import Plan, plan_of
from schemas.ports import (
    ConversationDirectory,
    Grant,
    History,
    Owner,
    Record,
    Reservation,
    StoredMessage,
    TopicPartition,
)
from stream_processors.rate_limit.quotas import bounds_of


class ReadOnlyConversations:
    """A ``ConversationDirectory`` that claims nothing."""

    def __init__(self, conversations: ConversationDirectory) -> None:
        self._conversations = conversations

    async def owners(self, conversation_ids: Sequence[str]) -> Mapping[str, Owner]:
        """As ``ConversationDirectory.owners``."""
        return await self._conversations.owners(conversation_ids)

    async def claim(self, owners: Mapping[str, Owner], created_at_ms: int) -> None:
        """Claims nothing: whoever began the conversation has claimed it in its day."""


class NoRunningTurns:
    """``ActiveTurns`` that knows of none and notes none: a recorded turn keeps nobody out, and nobody keeps it out."""

    async def active(self, conversation_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """None."""
        del conversation_ids
        return {}

    async def begin(self, turns: Mapping[str, str]) -> None:
        """Notes nothing."""

    async def end(self, turns: Mapping[str, str]) -> None:
        """Forgets nothing."""


class OpenQuota:
    """A ``Quota`` that grants everything and counts nothing. What is larger than a plan is refused before it."""

    def __init__(self, plans: Mapping[str, Plan]) -> None:
        self._plans = plans

    async def reserve(self, reservations: Sequence[Reservation]) -> Sequence[Grant]:
        """Grants every reservation; the quotas look unused."""
        return [Grant(self._unused(reservation.account)) for reservation in reservations]

    async def settle(self, used: Sequence[tuple[Account, str, int]]) -> Sequence[tuple[LimitWindow, ...] | None]:
        """Nothing is held."""
        return [None] * len(used)

    def _unused(self, account: Account) -> tuple[LimitWindow, ...]:
        plan = plan_of(self._plans, account.plan)
        return tuple(bound.window(used=0, reset_ms=0) for bound in bounds_of(plan, account))


class NoHotContexts:
    """``HotContexts`` that has none and keeps none: they hold the present, and a recorded turn wants its past."""

    async def read(self, conversation_ids: Sequence[str]) -> Mapping[str, Sequence[StoredMessage]]:
        """None."""
        del conversation_ids
        return {}

    async def begin_rebuild(self, conversation_ids: Sequence[str]) -> str:
        """Announces nothing."""
        del conversation_ids
        return ""

    async def finish_rebuild(self, token: str, contexts: Mapping[str, Sequence[StoredMessage]]) -> None:
        """Publishes nothing."""


class HistoryBefore:
    """The ``History`` of a conversation as one of its turns found it: nothing from ``message_seq`` on."""

    def __init__(self, history: History, message_seq: int) -> None:
        self._history = history
        self._last = message_seq - 1

    async def recent(self, conversation_ids: Sequence[str], messages_max: int) -> Mapping[str, Sequence[StoredMessage]]:
        """As ``History.recent``, as of then. Raises Retryable."""
        places = [(conversation_id, self._last) for conversation_id in conversation_ids]
        windows = await self._history.older(places, messages_max)
        return dict(zip(conversation_ids, windows, strict=True))

    async def older(self, places: Sequence[tuple[str, int]], messages_max: int) -> Sequence[Sequence[StoredMessage]]:
        """As ``History.older``, as of then. Raises Retryable."""
        bounded = [(conversation_id, min(seq, self._last)) for conversation_id, seq in places]
        return await self._history.older(bounded, messages_max)


class NoHints:
    """A ``LogTail`` on which nothing ever comes: nobody cancels a recorded turn."""

    async def poll(self, records_max: int, wait_s: float) -> Sequence[Record]:
        """Nothing."""
        del records_max, wait_s
        return ()

    def position(self, partition: TopicPartition) -> int:
        """Nothing is followed. Raises KeyError."""
        raise KeyError(partition)

    async def follow(self, partition: TopicPartition) -> None:
        """Follows nothing."""

    def unfollow(self, partition: TopicPartition) -> None:
        """Follows nothing."""


class NoMetrics:
    """``Metrics`` that counts nothing: dashboards show what users got."""

    def count(self, name: Counter, amount: float = 1, **labels: str) -> None:
        """Nothing."""

    def gauge(self, name: Gauge, value: float, **labels: str) -> None:
        """Nothing."""

    def observe(self, name: Histogram, value: float, **labels: str) -> None:
        """Nothing."""
