"""The usage of turns: the port ``UsageRows`` on the table ``usage_turns``."""

from collections.abc import Sequence
from typing import Any, Final

from schemas.ports import Owner, Upsert, UsageRow, WritingCql
from schemas.timestamps import unix_ms
from stream_processors.bounded_gather import execute_each

MS_PER_DAY: Final = 86_400_000
PAGE_ROWS: Final = 5_000
_STORE: Final = (
    "INSERT INTO usage_turns (tenant_id, user_id, day, turn_id, key_id, model, prompt_tokens, completion_tokens,"
    " cached_tokens, submitted_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PAGE: Final = (
    "SELECT turn_id, key_id, model, prompt_tokens, completion_tokens, cached_tokens, submitted_at FROM usage_turns"
    " WHERE tenant_id = ? AND user_id = ? AND day = ? AND turn_id > ? LIMIT ?"
)
_IN_FLIGHT_MAX: Final = 32


class CassandraUsageRows:
    """A partition per user and day, a row per turn: written twice it is the same row, and a sum counts it once."""

    def __init__(self, cql: WritingCql) -> None:
        self._cql = cql

    async def store(self, rows: Sequence[UsageRow]) -> None:
        """Keep these rows, idempotently. Raises Retryable."""
        await self._cql.write([_upsert(row) for row in rows])

    async def days(self, owner: Owner, first_day: int, last_day: int) -> Sequence[UsageRow]:
        """The user's rows of these days, both included, in no certain order. Raises Retryable."""
        found: list[UsageRow] = []
        places = [(owner.tenant_id, owner.user_id, day, "", PAGE_ROWS) for day in range(first_day, last_day + 1)]
        while places:
            pages = await execute_each(self._cql, _PAGE, places, _IN_FLIGHT_MAX)
            found.extend(_row(owner, row) for rows in pages for row in rows)
            places = [
                (*place[:3], rows[-1].turn_id, PAGE_ROWS)
                for place, rows in zip(places, pages, strict=True)
                if len(rows) == PAGE_ROWS
            ]
        return found


def _upsert(row: UsageRow) -> Upsert:
    partition = (row.tenant_id, row.user_id, row.submitted_at_ms // MS_PER_DAY)
    values = (
        *partition,
        row.turn_id,
        row.key_id,
        row.model,
        row.prompt_tokens,
        row.completion_tokens,
        row.cached_tokens,
        row.submitted_at_ms,
    )
    return Upsert(partition, _STORE, values)


def _row(owner: Owner, row: Any) -> UsageRow:
    return UsageRow(
        tenant_id=owner.tenant_id,
        user_id=owner.user_id,
        turn_id=row.turn_id,
        key_id=row.key_id,
        model=row.model,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cached_tokens=row.cached_tokens,
        submitted_at_ms=unix_ms(row.submitted_at),
    )
