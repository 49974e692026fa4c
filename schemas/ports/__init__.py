"""What stages need from the world, as protocols. Adapters implement them; the composition root passes them in.

Each port has an in-memory implementation (``tests/support``) and a real one, and one contract suite that
both pass.
"""

from schemas.ports.edge import AnswerForm, AnswerReader, AnswerReaders, Placed, RestForm, TurnLookup
from schemas.ports.inference import Generated, InferenceBackend, InputPolicy, OutputPolicy, Pile, Verdict
from schemas.ports.log import GroupConsumer, LogReader, LogTail, Outgoing, Producer, Record, TopicPartition
from schemas.ports.stages import BatchProcess, Emit, KeyedProcess, LogSink, Outcome, Received
from schemas.ports.stores import (
    AccountDirectory,
    ActiveTurns,
    ConversationDirectory,
    Cql,
    Grant,
    History,
    Lost,
    Owner,
    Quota,
    Reservation,
    StoredAnswer,
    StoredAnswers,
    StoredMessage,
    StoredPiece,
    TurnClaim,
    TurnClaims,
    Upsert,
    UsageRow,
    UsageRows,
    WritingCql,
)
from schemas.ports.telemetry import Metrics

__all__ = [
    "AccountDirectory",
    "ActiveTurns",
    "AnswerForm",
    "AnswerReader",
    "AnswerReaders",
    "BatchProcess",
    "ConversationDirectory",
    "Cql",
    "Emit",
    "Generated",
    "Grant",
    "GroupConsumer",
    "History",
    "InferenceBackend",
    "InputPolicy",
    "KeyedProcess",
    "LogReader",
    "LogSink",
    "LogTail",
    "Lost",
    "Metrics",
    "Outcome",
    "Outgoing",
    "OutputPolicy",
    "Owner",
    "Pile",
    "Placed",
    "Producer",
    "Quota",
    "Received",
    "Record",
    "Reservation",
    "RestForm",
    "StoredAnswer",
    "StoredAnswers",
    "StoredMessage",
    "StoredPiece",
    "TopicPartition",
    "TurnClaim",
    "TurnClaims",
    "TurnLookup",
    "Upsert",
    "UsageRow",
    "UsageRows",
    "Verdict",
    "WritingCql",
]
