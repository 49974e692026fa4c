"""Usage rows: every usage event becomes a row, before its offset is committed."""

from collections.abc import Sequence
from typing import Any, Final

from consumers.usage_rows.core import row_of
from schemas.ports import Outcome, Received, UsageRows

STAGE: Final = "usage_rows"


class StoreUsage:
    """A ``BatchProcess`` that emits nothing. A batch that comes again writes the same rows again."""

    def __init__(self, rows: UsageRows) -> None:
        self._rows = rows

    async def __call__(self, batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        """An empty outcome per ``UsageRecorded``. Raises Retryable when the store does not answer."""
        rows = [row for received in batch if (row := row_of(received.event)) is not None]
        if rows:
            await self._rows.store(rows)
        return [()] * len(batch)
