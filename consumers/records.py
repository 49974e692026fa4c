"""Records to events and back, the same for every stage. Pure, and on the path of every record: keep it cheap."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from schemas import headers, serde
from schemas.errors import Malformed
from schemas.event import Event
from schemas.ports import Emit, Outgoing, Received, Record, TopicPartition
from schemas.topics import Topic

EventT = TypeVar("EventT", bound=Event)


def receive(source: Topic, record: Record) -> Received[Any]:
    """The event in ``record`` with its trace context. Raises Malformed, also for a record of another schema."""
    serde.check_schema(source, record.headers)
    return Received(serde.decode(source, record.value), record, _traceparent(record))


def receive_all(source: Topic, records: Sequence[Record]) -> list[Received[Any] | Malformed]:
    """Of each record its event, or why it has none."""
    validate, check_schema = serde.decode, serde.check_schema
    received: list[Received[Any] | Malformed] = []
    for record in records:
        try:
            check_schema(source, record.headers)
            received.append(Received(validate(source, record.value), record, _traceparent(record)))
        except Malformed as error:
            received.append(error)
    return received


def outgoing(emit: Emit, cause: Received[Any]) -> Outgoing:
    """The record of ``emit``. The trace context of what caused it is passed on."""
    written = serde.event_headers(emit.topic, emit.turn_id, cause.traceparent)
    if emit.tenant is not None:
        written = (*written, (headers.TENANT, emit.tenant.encode()))
    if emit.carried:
        written = (*written, (headers.CARRIED, b"1"))
    return Outgoing(emit.topic.name, emit.key.encode(), serde.encode(emit.event), written, emit.partition)


def to_process(records: Sequence[Record]) -> Sequence[Record]:
    """Those of ``records`` that this stage has not had in the process that wrote them (``Emit.carried``)."""
    return [record for record in records if not headers.has_header(record.headers, headers.CARRIED)]


def live(records: Sequence[Record]) -> Sequence[Record]:
    """Those of ``records`` that are no replay: what is marked as one changes nothing, whoever meets it."""
    return [record for record in records if not headers.is_replayed(record.headers)]


def by_partition(batch: Iterable[Received[EventT]]) -> dict[TopicPartition, list[Received[EventT]]]:
    """``batch`` by the partition that each record lies in; the order within one stays."""
    parts: dict[tuple[str, int], list[Received[EventT]]] = {}
    for received in batch:
        record = received.record
        parts.setdefault((record.topic, record.partition), []).append(received)
    return {TopicPartition(*partition): part for partition, part in parts.items()}


def next_positions(records: Sequence[Record]) -> dict[TopicPartition, int]:
    """The offset after the last of ``records`` in each of their partitions; they are in order per partition."""
    last: dict[tuple[str, int], int] = {}
    for record in records:
        last[record.topic, record.partition] = record.offset
    return {TopicPartition(*partition): offset + 1 for partition, offset in last.items()}


def _traceparent(record: Record) -> str | None:
    for name, value in record.headers:
        if name == headers.TRACEPARENT:
            # A traceparent is ASCII (W3C Trace Context, 3.2); anything else is no trace context.
            return value.decode() if value.isascii() else None
    return None
