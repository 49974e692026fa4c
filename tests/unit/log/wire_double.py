"""A broker whose answers the test writes itself."""

from typing import Any

from schemas.ports import TopicPartition
from turnstream.log.wire.cluster import ProducerId
from turnstream.log.wire.connection import Api, OnAnswer


class WireDouble:
    """Stands for the connection to a broker; ``sent`` are the requests that are not answered yet."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, OnAnswer]] = []
        self.closed = False

    def send(self, _api: Api, body: bytes, on_answer: OnAnswer) -> None:
        self.sent.append((body, on_answer))

    def answer(self, body: bytes) -> None:
        """To the oldest request."""
        _body, on_answer = self.sent.pop(0)
        on_answer(body)

    def lose(self) -> None:
        """The oldest request, with the connection."""
        _body, on_answer = self.sent.pop(0)
        on_answer(None)

    def close(self) -> None:
        self.closed = True
        while self.sent:
            self.lose()


class ClusterDouble:
    """Of one broker; ``wire`` None stands for one that cannot be reached."""

    def __init__(self) -> None:
        self.wire: WireDouble | None = WireDouble()
        self.refreshed = 0

    def leader(self, _partition: TopicPartition) -> int:
        return 1

    def connection(self, _broker: int) -> Any:
        return self.wire

    def leading(self, _partition: TopicPartition) -> Any:
        return self.wire

    def refresh(self) -> None:
        self.refreshed += 1

    async def producer_id(self) -> ProducerId:
        return ProducerId(7, 0)
