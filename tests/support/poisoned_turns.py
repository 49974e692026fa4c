"""Turns whose records are poisoned on a running stack, and where turns stand by its log."""

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer

from producers.http.api_keys import key_hash, parse_api_key
from schemas import headers, ids, serde
from schemas.accounts import ApiKeyCredential
from schemas.content import Content
from schemas.errors import Malformed
from schemas.events import Turn, TurnSubmitted
from schemas.messages import Message, Role
from schemas.stream_state import INITIAL, StreamState, advance
from schemas.topics import TOKENS, Topic
from tests.support.full_stack import MODEL, RECOVERY_SECONDS_MAX, FullStack, eventually
from tests.support.topic_scan import LogRecord

QUESTION: Final = "Hello? [[demo first_ms=0 gap_ms=0 tokens=5]]"
# What no event may have; its cause names the field, and a merge patch takes it away.
POISON: Final = {"max_tokens": -1}
CAUSE: Final = "turn.max_tokens"
CURE: Final = json.dumps({"turn": {"max_tokens": None}})
_DEADLINE_MS: Final = 60_000


class Row(NamedTuple):
    """A record to put on the log unchecked."""

    topic: Topic
    turn_id: str
    key: str
    value: bytes


def new_turn(partition: int) -> str:
    return ids.new_turn_id(time.time_ns() // 1_000_000, partition, secrets.token_bytes(ids.TURN_ENTROPY_BYTES))


def submitted(turnstream: FullStack, key: str, partition: int) -> TurnSubmitted:
    """A question that opens a stored conversation, as an edge would have submitted it for ``key``."""
    parsed = parse_api_key(key)
    assert parsed is not None
    turn_id = new_turn(partition)
    now_ms = ids.turn_time_ms(turn_id)
    turn = Turn(
        turn_id=turn_id,
        conversation_id=ids.new_conversation_id(now_ms, secrets.token_bytes(ids.CONVERSATION_ENTROPY_BYTES)),
        starts_conversation=True,
        stored=True,
        model=MODEL,
        submitted_at_ms=now_ms,
        deadline_ms=now_ms + _DEADLINE_MS,
    )
    credential = ApiKeyCredential(key_hash=key_hash(parsed, turnstream.pepper))
    return TurnSubmitted(turn=turn, credential=credential, input=(Message(role=Role.USER, content=Content(QUESTION)),))


def poisoned(document: Mapping[str, Any]) -> bytes:
    """A turn's event with a field that nothing decodes."""
    return json.dumps({**document, "turn": {**document["turn"], **POISON}}).encode()


def poisoned_row(topic: Topic, event: TurnSubmitted) -> Row:
    return Row(topic, event.turn.turn_id, event.turn.conversation_id, poisoned(json.loads(serde.encode(event))))


async def put(turnstream: FullStack, rows: Sequence[Row]) -> None:
    """Append ``rows`` by a client that checks nothing."""
    producer = AIOKafkaProducer(bootstrap_servers=turnstream.stack.endpoints.kafka)
    await producer.start()
    try:
        for row in rows:
            written = [(headers.SCHEMA, row.topic.name.encode()), (headers.TURN, row.turn_id.encode())]
            partition = ids.turn_partition(row.turn_id) if row.topic is TOKENS else None
            await producer.send(row.topic.name, row.value, row.key.encode(), partition, headers=written)
        await producer.flush()
    finally:
        await producer.stop()


async def until_buried(turnstream: FullStack, rows: Sequence[Row]) -> None:
    """Wait until each of ``rows`` is a dead letter."""
    wanted = {(row.topic.dlq, row.turn_id) for row in rows}

    async def all_there() -> bool:
        return wanted <= {(record.topic, record.turn_id) for record in await turnstream.records()}

    await eventually(all_there, RECOVERY_SECONDS_MAX)


def states(records: Sequence[LogRecord]) -> dict[str, StreamState]:
    """Where every turn stands, by the log."""
    found: dict[str, StreamState] = {}
    for record in records:
        if record.topic == TOKENS.name:
            turn_id = (record.key or b"").decode()
            try:
                found[turn_id] = advance(found.get(turn_id, INITIAL), serde.decode_token(record.value))
            except Malformed:
                continue
    return found
