"""Reads turns again from the log that the sink no longer holds, or never saw begin."""

from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from consumers.cassandra_sink.core import CassandraSinkSettings, PartitionTurns, Plan
from consumers.cassandra_sink.turns import HeldTurn, TextBounds, fold, opened_by
from consumers.records import live, receive_all
from schemas.errors import Malformed
from schemas.ids import turn_time_ms
from schemas.ports import LogReader, Received, Record, TopicPartition
from schemas.tokens import TokenEvent
from schemas.topics import TOKENS

_log: Final = structlog.get_logger(__name__)


class TurnRecovery:
    """Finds turns by their ids: an id says when the turn began, and all its records lie in one partition.

    The log is read once for all turns of a call, in batches of ``recovery_batch_records_max`` offsets, at most
    ``recovery_records_max`` of them; records of other turns are passed over undecoded.
    """

    def __init__(self, log: LogReader, settings: CassandraSinkSettings) -> None:
        self._log = log
        self._settings = settings
        self._bounds = TextBounds(settings.text_bytes_max, settings.pieces_max)

    async def plan(self, turns: PartitionTurns, records: Sequence[Received[TokenEvent]]) -> Plan:
        """What ``records``, the next of the partition of ``turns``, ask for; nothing of it is unexplained.

        Raises Retryable when the log cannot be read.
        """
        plan = turns.plan(records)
        if not plan.unexplained:
            return plan
        last = records[-1].record
        return turns.plan(records, await self.find(last.source, plan.unexplained, last.offset + 1))

    async def find(
        self, partition: TopicPartition, turn_ids: Sequence[str], stop: int
    ) -> Mapping[str, HeldTurn | None]:
        """Each of ``turn_ids`` as ``partition`` has it before offset ``stop``; None without a record of it.

        Raises Retryable when the log cannot be read.
        """
        wanted = {turn_id.encode() for turn_id in turn_ids}
        turns: dict[str, HeldTurn | None] = dict.fromkeys(turn_ids)
        start = await self._start(partition, turn_ids, stop)
        for low in range(start, stop, self._settings.recovery_batch_records_max):
            high = min(low + self._settings.recovery_batch_records_max, stop)
            records = await self._log.read_range(partition, low, high)
            self._fold_into(turns, [record for record in records if record.key in wanted])
        place = {"topic": partition.topic, "partition": partition.partition}
        _log.info("turns_read_again", turns=len(turn_ids), offsets=stop - start, **place)
        return turns

    async def _start(self, partition: TopicPartition, turn_ids: Sequence[str], stop: int) -> int:
        times_ms = [time_ms for turn_id in turn_ids if (time_ms := _began_ms(turn_id)) is not None]
        if not times_ms:
            return stop
        since_ms = min(times_ms) - int(self._settings.recovery_skew_seconds_max * 1000)
        start = (await self._log.offsets_at([partition], max(0, since_ms)))[partition]
        earliest = stop - self._settings.recovery_records_max
        if start < earliest:
            # Further back than any turn lives: the record that led here is of a turn that nobody waits for.
            _log.error("turns_too_old_to_store", turn_ids=list(turn_ids), offsets=stop - start)
        return max(start, earliest)

    def _fold_into(self, turns: dict[str, HeldTurn | None], records: Sequence[Record]) -> None:
        by_turn: dict[str, list[Received[TokenEvent]]] = {}
        for received in receive_all(TOKENS, live(records)):
            if not isinstance(received, Malformed):
                by_turn.setdefault(received.event.turn_id, []).append(received)
        for turn_id, found in by_turn.items():
            turns[turn_id] = fold(turns.get(turn_id) or opened_by(found[0]), found, self._bounds)


def _began_ms(turn_id: str) -> int | None:
    try:
        return turn_time_ms(turn_id)
    except ValueError:
        return None
