"""Faust with less to do for each record.

Faust 0.15.3 starts four tasks for a record on its way to a stream, to break off if the group meets anew meanwhile. But
nothing on that way waits, unless a buffer is full: so here the way is gone first, and tasks are only for what waits.
It keeps statistics of each record for a web page that is switched off. And it fetches as soon as there is one record:
here the broker waits for more of them. Together these were more than half of what a record cost.
Its producer gives every record a future of its own; here they go by the partition.
"""

import inspect
from collections.abc import Coroutine, Generator, Iterable
from types import coroutine
from typing import Any, Final

import faust
from aiokafka.errors import MessageSizeTooLargeError
from faust.events import Event
from faust.transport.drivers.aiokafka import Consumer, Producer, Transport
from mode.services import Service, WaitResults

from stream_processors.windows.faust_records import Write
from stream_processors.windows.faust_recovery import SafeThread

# More than comes in a wait, so that the broker waits.
_FETCH_BYTES_MIN: Final = 1 << 20


class LeanApp(faust.App):  # type: ignore[misc]
    """Faust's app with the parts below. ``fetch_seconds_max`` is how long the broker waits for more records."""

    def __init__(self, *arguments: Any, fetch_seconds_max: float, **options: Any) -> None:
        """As Faust's."""
        super().__init__(*arguments, Monitor=LeanMonitor, **options)
        self.fetch_seconds_max = fetch_seconds_max
        self.transport = LeanTransport(self.conf.broker_consumer, self)
        self.producer_transport = LeanTransport(self.conf.broker_producer, self)

    async def on_first_start(self) -> None:
        """Make no folders: Faust's are for tables on a disk."""

    def create_event(self, key: Any, value: Any, headers: Any, message: Any) -> Event:
        """As Faust's, which looks the class up among the settings for each event."""
        return Event(self, key, value, headers, message)


class LeanThread(SafeThread):
    """Faust's thread for the consumer of aiokafka, which fetches less often."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust has no settings for these; they are read when the consumer starts.
        consumer._fetch_min_bytes = _FETCH_BYTES_MIN  # noqa: SLF001
        consumer._fetch_max_wait_ms = int(self.app.fetch_seconds_max * 1_000)  # noqa: SLF001
        return consumer


class WithoutTasks(Service):  # type: ignore[misc]
    """A service of Faust's, but what does not wait is done without tasks."""

    async def wait_first(self, *waits: Any, timeout: Any = None) -> Any:  # noqa: ASYNC109 - its name is Faust's
        """As in ``mode.Service``: wait for the first of ``waits``, or until the service stops."""
        first, *others = waits
        if not inspect.iscoroutine(first) or self._stopped.is_set() or self._crashed.is_set():
            return await super().wait_first(*waits, timeout=timeout)
        try:
            waits_for = first.send(None)
        except StopIteration as done:
            _close(others)
            return WaitResults([first], [done.value], stopped=False)
        except BaseException:
            _close(others)
            raise
        return await super().wait_first(_finish(first, waits_for), *others, timeout=timeout)


class LeanConsumer(WithoutTasks, Consumer):  # type: ignore[misc]
    """Faust's consumer, with the wait and the thread above."""

    def _new_consumer_thread(self) -> Any:
        return LeanThread(self, loop=self.loop, beacon=self.beacon)


class LeanProducer(Producer):  # type: ignore[misc]
    """Faust's producer, which also writes many records for little more than one."""

    async def write_all(self, writes: Iterable[Write]) -> None:
        """Write records, those of a partition in this order, and return when the broker has all of them.

        Raises KafkaError when it has not; some may be on the log then.
        """
        kafka = self._ensure_producer()
        known: set[str] = set()
        waiting: dict[tuple[str, int], Any] = {}
        handed_over = []
        for write in writes:
            if write.topic not in known:
                await kafka.partitions_for(write.topic)
                known.add(write.topic)
            partition = write.partition
            if partition is None:
                partition = self.key_partition(write.topic, write.key).partition
            place = write.topic, partition
            batch = waiting.get(place)
            if batch is None or not _appended(batch, write):
                if batch is not None:
                    handed_over.append(await kafka.send_batch(batch, write.topic, partition=partition))
                batch = waiting[place] = kafka.create_batch()
                if not _appended(batch, write):
                    raise MessageSizeTooLargeError
        for (topic, partition), batch in waiting.items():
            handed_over.append(await kafka.send_batch(batch, topic, partition=partition))
        for acknowledged in handed_over:
            await acknowledged


def _appended(batch: Any, write: Write) -> bool:
    return batch.append(timestamp=None, key=write.key, value=write.value, headers=list(write.marks)) is not None


class LeanTransport(Transport):  # type: ignore[misc]
    """Faust's transport with the consumer and the producer above."""

    Consumer = LeanConsumer
    Producer = LeanProducer


class LeanMonitor(faust.Monitor):  # type: ignore[misc]
    """Faust's monitor without the statistics of each record."""

    def on_message_in(self, tp: Any, offset: int, message: Any) -> None:
        """Count nothing."""

    def on_stream_event_in(self, tp: Any, offset: int, stream: Any, event: Any) -> None:
        """Count nothing."""

    def on_stream_event_out(self, tp: Any, offset: int, stream: Any, event: Any, state: Any = None) -> None:
        """Count nothing."""

    def on_message_out(self, tp: Any, offset: int, message: Any) -> None:
        """Count nothing."""


def _close(waits: Iterable[Any]) -> None:
    for wait in waits:
        if inspect.iscoroutine(wait):
            wait.close()


async def _finish(begun: Coroutine[Any, Any, Any], waits_for: Any) -> Any:
    return await _rest(begun, waits_for)


@coroutine
def _rest(begun: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """What is left of a coroutine that was begun and now waits for something."""
    try:
        yield waits_for
    except BaseException:
        begun.close()
        raise
    return (yield from begun)
