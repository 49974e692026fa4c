"""What a redrive needs of the world."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from producers.audit.trail import AuditTrail
from schemas.operations import OperatorActed
from schemas.ports import ActiveTurns, ConversationDirectory, LogReader, Producer, TurnLookup


@dataclass(frozen=True, slots=True)
class RedrivePorts:
    """``actions`` reads the audit topic up to its present end; ``wait`` sleeps for seconds.

    ``tokens_partitions``: how many the topic of the answers has.
    """

    producer: Producer
    reader: LogReader
    trail: AuditTrail
    actions: Callable[[], Awaitable[Sequence[OperatorActed]]]
    turns: TurnLookup
    conversations: ConversationDirectory
    active: ActiveTurns
    now_ms: Callable[[], int]
    wait: Callable[[float], Awaitable[None]]
    tokens_partitions: int
