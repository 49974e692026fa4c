"""Proof that this edge reads what it writes; an open connection or a subscription proves neither."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Final

import structlog

from consumers.sse.core import SseSettings
from schemas import serde
from schemas.errors import Malformed, Retryable
from schemas.ports import Outgoing, Producer
from schemas.tokens import Probed
from schemas.topics import TOKENS

_LOG: Final = structlog.get_logger(__name__)
_NONCE_BYTES: Final = 8


class ReadbackProbe:
    """Writes a record to one home partition after another and notes when it comes back."""

    def __init__(
        self,
        producer: Producer,
        home_partitions: Sequence[int],
        edge_id: str,
        settings: SseSettings,
        entropy: Callable[[int], bytes],
    ) -> None:
        self.key: Final = f"probe-{edge_id}".encode()
        self._producer = producer
        self._partitions = cycle(home_partitions)
        self._edge_id = edge_id
        self._settings = settings
        self._entropy = entropy
        self._nonce = ""
        self._returned_s = float("-inf")

    def ready(self, now_s: float) -> bool:
        """Whether a probe came back within the last ``ready_seconds_max``; ``now_s`` is the event loop's time."""
        return now_s - self._returned_s <= self._settings.ready_seconds_max

    async def run(self) -> None:
        """Write a probe every ``probe_interval_seconds``, until cancelled."""
        while True:
            await self._write()
            await asyncio.sleep(self._settings.probe_interval_seconds)

    def take(self, value: bytes, now_s: float) -> None:
        """Look at a record that carries this probe's key."""
        try:
            event = serde.decode_token(value)
        except Malformed:
            return
        if isinstance(event, Probed) and event.nonce == self._nonce:
            self._returned_s = now_s

    async def _write(self) -> None:
        self._nonce = self._entropy(_NONCE_BYTES).hex()
        record = Outgoing(
            topic=TOKENS.name,
            key=self.key,
            value=serde.encode(Probed(edge_id=self._edge_id, nonce=self._nonce)),
            headers=serde.event_headers(TOKENS, None),
            partition=next(self._partitions),
        )
        try:
            await self._producer.append([record])
        except Retryable as error:
            _LOG.warning("probe_not_written", partition=record.partition, error=type(error).__name__)
