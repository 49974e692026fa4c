"""Sends what waits for the log: batches to the leaders of their partitions, again until they answer for good."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import structlog
from aiokafka.errors import NoError, for_code

from schemas.ports import TopicPartition
from turnstream.log.lanes import Lane
from turnstream.log.settings import KafkaSettings
from turnstream.log.wire.cluster import RETRY_S, Cluster, ProducerId
from turnstream.log.wire.connection import Api, BrokerConnection
from turnstream.log.wire.produce import Appended, produce_request, read_produce_answer

log = structlog.get_logger()

# After an answer that says "not now".
_BACKOFF_S: Final = 0.1

# Told what became of the batch that a lane has on its way: its offset, or the error after which it is given up.
OnOutcome = Callable[[Lane, int | None, type[Exception] | None], None]


class BatchSender:
    """One batch of a partition and one request of a broker are on their way at a time.

    What becomes ready meanwhile goes out together with the answer. So a partition's records keep their order, and the
    busier a broker is, the more a request carries. A batch that was not answered goes out again as it is, and
    the broker knows it by its sequence; only an error that time cannot mend ends it.
    """

    def __init__(self, settings: KafkaSettings, cluster: Cluster, on_outcome: OnOutcome) -> None:
        self._cluster = cluster
        self._on_outcome = on_outcome
        self._linger_s = settings.linger_ms / 1000
        self._timeout_ms = int(settings.append_seconds_max * 1000)
        self._producer: ProducerId | None = None
        self._ready: deque[Lane] = deque()
        self._busy: set[BrokerConnection] = set()
        self._round_due = False
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Get a producer id. Raises KafkaError; the deadline is the caller's."""
        self._producer = await self._cluster.producer_id()

    def stop(self) -> None:
        """Send nothing more and hear of nothing more."""
        self._producer = None
        self._ready.clear()

    def announce(self, lane: Lane) -> None:
        """``lane`` has a batch that may go."""
        self._ready.append(lane)
        self._due_in(self._linger_s)

    def _due_in(self, delay_s: float) -> None:
        if self._round_due:
            return
        self._round_due = True
        if delay_s:
            self._loop.call_later(delay_s, self._round)
        else:
            # After whatever else the loop has at hand, so that appends of the same moment share a request.
            self._loop.call_soon(self._round)

    def _round(self) -> None:
        """Send to every broker that is free what is ready for it."""
        self._round_due = False
        if self._producer is None:
            return
        departing: dict[BrokerConnection, list[Lane]] = defaultdict(list)
        staying: deque[Lane] = deque()
        for lane in self._ready:
            connection = self._cluster.leading(lane.partition)
            if connection is None:
                staying.append(lane)
                self._due_in(RETRY_S)
            elif connection in self._busy:
                staying.append(lane)
            else:
                departing[connection].append(lane)
        self._ready = staying
        for connection, lanes in departing.items():
            self._send(connection, lanes, self._producer)

    def _send(self, connection: BrokerConnection, lanes: Sequence[Lane], producer: ProducerId) -> None:
        self._busy.add(connection)
        departed = {lane.partition: lane for lane in lanes}
        batches = {lane.partition: lane.depart(producer).sealed for lane in lanes}
        body = produce_request(batches, self._timeout_ms)
        connection.send(Api.PRODUCE, body, partial(self._answered, connection, departed))

    def _answered(
        self, connection: BrokerConnection, departed: Mapping[TopicPartition, Lane], body: bytes | None
    ) -> None:
        self._busy.discard(connection)
        if self._producer is None:
            return
        if body is None:
            for lane in departed.values():
                self._again(lane)
            return
        again = [
            result for result in read_produce_answer(body) if not self._settled(departed[result.partition], result)
        ]
        if again:
            # One line for all of them: when a broker goes, every partition of it moves at once.
            errors = sorted({for_code(result.error_code).__name__ for result in again})
            log.info(
                "batches_sent_again", errors=errors, partitions=[":".join(map(str, each.partition)) for each in again]
            )
        if self._ready:
            self._round()

    def _settled(self, lane: Lane, result: Appended) -> bool:
        """Whether what became of the batch is certain; otherwise it goes out again."""
        error: Any = for_code(result.error_code)
        if error is not NoError and error.retriable:
            self._again(lane)
            return False
        if error is NoError:
            self._on_outcome(lane, result.base_offset, None)
        else:
            self._on_outcome(lane, None, error)
        return True

    def _again(self, lane: Lane) -> None:
        self._cluster.refresh()
        self._loop.call_later(_BACKOFF_S, self.announce, lane)
