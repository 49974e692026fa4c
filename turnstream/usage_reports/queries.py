"""The reports as SQL text. Pure: nothing here reaches a database, and what is put into the text is checked here."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Final, Literal

_FILES: Final = "date=*/region=*/*.parquet"
_MS_PER_S: Final = 1_000
CostBy = Literal["tenant", "user", "key", "model", "pool", "region", "day"]
LatencyBy = Literal["model", "pool", "region", "day"]
TurnsBy = Literal["finish_reason", "decision", "model", "day"]

# Names for a grouping on the command line, and their columns.
COST_BY: Final[Mapping[CostBy, str]] = {
    "tenant": "tenant_id",
    "user": "user_id",
    "key": "key_id",
    "model": "model",
    "pool": "pool",
    "region": "region",
    "day": "date",
}
LATENCY_BY: Final[Mapping[LatencyBy, str]] = {"model": "model", "pool": "pool", "region": "region", "day": "date"}
TURNS_BY: Final[Mapping[TurnsBy, str]] = {
    "finish_reason": "finish_reason",
    "decision": "decision",
    "model": "model",
    "day": "date",
}


@dataclass(frozen=True, slots=True)
class Within:
    """Which turns count, by the time of their submission: Unix milliseconds, ``until_ms`` excluded."""

    since_ms: int | None = None
    until_ms: int | None = None

    def sql(self) -> str:
        """The condition; the days in it let the reader pass over the folders of others."""
        parts: list[str] = []
        if self.since_ms is not None:
            since = _utc(self.since_ms)
            parts.append(f"date >= DATE '{since.date()}' AND submitted_at >= TIMESTAMP '{_written(since)}'")
        if self.until_ms is not None:
            until = _utc(self.until_ms)
            parts.append(f"date <= DATE '{until.date()}' AND submitted_at < TIMESTAMP '{_written(until)}'")
        return " AND ".join(parts) or "true"


def views(location: str) -> str:
    """The statements that make ``usage`` and ``usage_rows`` of the files below ``location``, a folder or URL."""
    files = f"{location.rstrip('/')}/{_FILES}"
    return _text("views", files=files.replace("'", "''"))


def cost(by: CostBy, within: Within) -> str:
    """What the turns cost."""
    column = COST_BY[by]
    order = "date" if column == "date" else f"cost_nano_usd DESC, turns DESC, {column}"
    return _text("cost", by=column, within=within.sql(), order=order)


def top_users(limit: int, within: Within) -> str:
    """Who costs most."""
    return _text("top_users", limit=str(int(limit)), within=within.sql())


def latency(by: LatencyBy, within: Within) -> str:
    """Percentiles of the times of turns."""
    return _text("latency", by=LATENCY_BY[by], within=within.sql())


def turns(by: TurnsBy, within: Within) -> str:
    """How turns ended."""
    return _text("turns", by=TURNS_BY[by], within=within.sql())


def _text(name: str, **values: str) -> str:
    text = resources.files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
    for place, value in values.items():
        text = text.replace(f"{{{place}}}", value)
    return text.strip()


def _utc(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / _MS_PER_S, UTC)


def _written(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds")
