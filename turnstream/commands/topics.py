"""``turnstream topics``: the plan of the contract beside what the broker has."""

import asyncio
import json
from collections.abc import Sequence
from textwrap import wrap
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Column, Table

from schemas.errors import Fatal, Retryable
from schemas.topics import BY_NAME, DLQ_SUFFIX
from turnstream.commands.exits import Exit, fail
from turnstream.commands.running_stack import fail_unreachable, require_settings
from turnstream.log.kafka_topics import TopicCondition, TopicState, create_topics, describe_topics
from turnstream.settings import Settings
from turnstream.wiring.topics import planned_topics

_HOUR_MS: Final = 3_600_000
_GROUPS: Final = "turnstream."
_INDENT: Final = "  "
# With it everything fits into 80 columns.
_KEY_CHARS_MAX: Final = 20
_STYLES: Final = {TopicCondition.OK: "green", TopicCondition.MISSING: "red", TopicCondition.DIFFERS: "yellow"}

Create = Annotated[bool, typer.Option("--create", help="Create what is missing. Existing topics stay as they are.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the ``topics`` command to ``app``."""
    app.command()(topics)


def topics(*, create: Create = False, as_json: AsJson = False) -> None:
    """Show every topic of the contract and its state on the broker. Exit code 1: missing or differing topics."""
    settings = require_settings()
    try:
        states = asyncio.run(_states(settings, create=create))
    except Retryable as error:
        fail_unreachable(f"the broker did not answer: {error}")
    except Fatal as error:
        fail(str(error))
    rows = [_row(state) for state in states]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        Console().print(_table(rows))
    if any(state.condition is not TopicCondition.OK for state in states):
        raise typer.Exit(Exit.FAILED)


async def _states(settings: Settings, *, create: bool) -> Sequence[TopicState]:
    plans = planned_topics(settings)
    if create:
        for name in await create_topics(settings.kafka, plans):
            typer.echo(f"created {name}", err=True)
    return await describe_topics(settings.kafka, plans)


def _row(state: TopicState) -> dict[str, Any]:
    plan = state.plan
    topic = BY_NAME[plan.name.removesuffix(DLQ_SUFFIX)]
    planned_config, broker_config = dict(plan.config), dict(state.config)
    return {
        "name": plan.name,
        "state": state.condition.value,
        "partitions": state.partitions,
        "partitions_planned": plan.partitions,
        "key": topic.key.value,
        "retention_hours": _hours(broker_config.get("retention.ms")),
        "retention_hours_planned": _hours(planned_config.get("retention.ms")),
        "cleanup": broker_config.get("cleanup.policy"),
        "groups": [] if plan.name == topic.dlq else list(topic.groups),
    }


def _hours(retention_ms: str | None) -> int | None:
    return int(retention_ms) // _HOUR_MS if retention_ms else None


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    narrow = (Column(name, no_wrap=True) for name in ("topic", "state", "parts", "hours"))
    last = Column(f"key\n{_INDENT}group {_GROUPS}*", overflow="fold")
    table = Table(*narrow, last, box=None, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False)
    for row in rows:
        table.add_row(
            row["name"],
            f"[{_STYLES[TopicCondition(row['state'])]}]{row['state']}[/]",
            _beside(row["partitions"], row["partitions_planned"]),
            _beside(row["retention_hours"], row["retention_hours_planned"]),
            "" if row["name"].endswith(DLQ_SUFFIX) else _key_and_groups(row),
        )
    return table


def _key_and_groups(row: dict[str, Any]) -> str:
    key = (line.replace(" ", "") for line in wrap(row["key"].replace("|", "| "), _KEY_CHARS_MAX))
    return "\n".join((*key, *(_INDENT + group.removeprefix(_GROUPS) for group in row["groups"])))


def _beside(found: int | None, wanted: int | None) -> str:
    """What the broker has, and what it should have where these differ."""
    if found is None:
        return f"- ({wanted})"
    return str(found) if found == wanted else f"{found} ({wanted})"
