"""Which broker leads what, and a connection to each that is asked."""

import asyncio
from typing import Any, Final, NamedTuple

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, NoError, for_code
from aiokafka.protocol.transaction import InitProducerIdRequest

from schemas.ports import TopicPartition
from turnstream.log.settings import KafkaSettings
from turnstream.log.wire.connection import BrokerConnection

log = structlog.get_logger()

_NO_TRANSACTION: Final = 0
# Between two attempts to reach a broker, or to learn what is not known yet.
RETRY_S: Final = 0.02
# At most so often is the cluster asked who leads what.
_REFRESH_S: Final = 0.1


class ProducerId(NamedTuple):
    """By what a broker knows a batch that comes again."""

    producer_id: int
    epoch: int


class Cluster:
    """aiokafka's client for whatever is asked seldom; connections of our own for the rest.

    Nothing here fails for good: what cannot be had now is None, and may be there a moment later.
    """

    def __init__(self, settings: KafkaSettings, answer_seconds_max: float) -> None:
        self._settings = settings
        self._answer_s = answer_seconds_max
        self._client: Any = AIOKafkaClient(
            bootstrap_servers=settings.bootstrap_servers,
            client_id=settings.client_id,
            request_timeout_ms=int(answer_seconds_max * 1000),
        )
        self._connections: dict[int, BrokerConnection] = {}
        self._connecting: dict[int, asyncio.Task[None]] = {}
        self._refresh_after = 0.0
        self._loop = asyncio.get_running_loop()

    async def connect(self) -> None:
        """Learn the cluster's brokers. Raises KafkaError."""
        await self._client.bootstrap()

    async def close(self) -> None:
        """Disconnect."""
        connecting = tuple(self._connecting.values())
        for task in connecting:
            task.cancel()
        if connecting:
            await asyncio.wait(connecting)
        for connection in self._connections.values():
            connection.close()
        await self._client.close()

    def leader(self, partition: TopicPartition) -> int | None:
        """The id of the broker that leads ``partition``, if it is known."""
        leader = self._client.cluster.leader_for_partition(partition)
        if leader is None or leader < 0:
            self._client.add_topic(partition.topic)
            self.refresh()
            return None
        return int(leader)

    def refresh(self) -> None:
        """Ask again who leads what, soon."""
        now_s = self._loop.time()
        if now_s >= self._refresh_after:
            self._refresh_after = now_s + _REFRESH_S
            self._client.force_metadata_update()

    def connection(self, broker: int) -> BrokerConnection | None:
        """The connection to ``broker`` if it is open; else that is seen to."""
        connection = self._connections.get(broker)
        if connection is not None and connection.open:
            return connection
        if broker not in self._connecting:
            task = self._connecting[broker] = self._loop.create_task(self._connect(broker))
            task.add_done_callback(lambda _task: self._connecting.pop(broker))
        return None

    def leading(self, partition: TopicPartition) -> BrokerConnection | None:
        """The connection to the leader of ``partition``, if it is known and open; else that is seen to."""
        broker = self.leader(partition)
        return None if broker is None else self.connection(broker)

    async def send(self, broker: int, request: Any) -> Any:
        """The answer to one of aiokafka's requests. Raises KafkaError."""
        try:
            return await self._client.send(broker, request)
        except KafkaError:
            self.refresh()
            raise

    async def partitions_of(self, topic: str) -> int:
        """How many partitions ``topic`` has. Waits for one that nobody knows yet; the deadline is the caller's."""
        await self._client.add_topic(topic)
        while not (partitions := self._client.cluster.partitions_for_topic(topic)):
            await asyncio.sleep(RETRY_S)
            await self._client.force_metadata_update()
        return len(partitions)

    async def producer_id(self) -> ProducerId:
        """A fresh producer id (KIP-98). Raises KafkaError for good; the deadline is the caller's."""
        while True:
            answer = await self._client.send(
                self._client.get_random_node(), InitProducerIdRequest(None, _NO_TRANSACTION)
            )
            error = for_code(answer.error_code)
            if error is NoError:
                return ProducerId(answer.producer_id, answer.producer_epoch)
            if not error.retriable:
                raise error
            await asyncio.sleep(RETRY_S)

    async def _connect(self, broker: int) -> None:
        known = self._client.cluster.broker_metadata(broker)
        if known is None:
            self.refresh()
            await asyncio.sleep(RETRY_S)
            return
        try:
            async with asyncio.timeout(self._answer_s):
                _transport, connection = await self._loop.create_connection(
                    lambda: BrokerConnection(self._settings.client_id, self._answer_s), known.host, known.port
                )
        except (OSError, TimeoutError) as error:
            log.warning("broker_not_reached", broker=broker, error=type(error).__name__)
            self.refresh()
            await asyncio.sleep(_REFRESH_S)
        else:
            self._connections[broker] = connection
