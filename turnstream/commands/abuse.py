"""``turnstream abuse``: who stands on the ladder, why, and letting somebody down."""

import asyncio
import json
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from schemas.abuse import AbuseEvidence, AbuseLevel, AbuseSignalled
from schemas.errors import Fatal, Retryable
from schemas.ports import LogReader
from schemas.topics import ABUSE_EVIDENCE, ABUSE_SIGNALS
from turnstream.abuse import standing
from turnstream.clocks import now_ms
from turnstream.commands.audited import audited
from turnstream.commands.exits import Exit, fail
from turnstream.commands.log_reading import read_log
from turnstream.commands.moments import moment_text
from turnstream.commands.running_stack import require_settings
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.settings import Settings
from turnstream.wiring.topics import planned_topics

LIFT: Final = "abuse.lift"
_STYLES: Final = {
    AbuseLevel.NONE: "dim",
    AbuseLevel.WARN: "yellow",
    AbuseLevel.SLOW: "dark_orange",
    AbuseLevel.SUSPEND: "red",
}

UserId = Annotated[str, typer.Argument(help="The user's id, as `abuse list` shows it.", show_default=False)]
Tenant = Annotated[str, typer.Option("--tenant", help="The tenant of the user.")]
All = Annotated[bool, typer.Option("--all", help="Also those whose level has ended.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, an object per line.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; in the audit.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the ``abuse`` commands to ``app``."""
    abuse = typer.Typer(no_args_is_help=True, help="The ladder of abuse signals: list, show, lift.")
    abuse.command("list")(list_users)
    abuse.command()(show)
    abuse.command()(lift)
    app.add_typer(abuse, name="abuse")


def list_users(*, ended: All = False, as_json: AsJson = False) -> None:
    """List the users who stand on the ladder, the highest rungs first."""
    settings, moment_ms = require_settings(), now_ms()
    found = read_log(
        settings, lambda reader: standing.newest_signals(reader, _partitions(settings, ABUSE_SIGNALS.name))
    )
    rungs = list(AbuseLevel)
    signals = sorted(
        (
            signal
            for signal in found.values()
            if ended or standing.standing_at(signal, moment_ms) is not AbuseLevel.NONE
        ),
        key=lambda signal: (-rungs.index(standing.standing_at(signal, moment_ms)), -signal.signalled_at_ms),
    )
    if as_json:
        for signal in signals:
            typer.echo(json.dumps(_as_json(signal, moment_ms)))
    else:
        Console().print(_table(signals, moment_ms))


def show(user_id: UserId, tenant: Tenant = "public", *, as_json: AsJson = False) -> None:
    """Show where a user stands, since when and why. Exit code 4: nothing was ever signalled about them."""
    settings, moment_ms = require_settings(), now_ms()

    async def find(reader: LogReader) -> tuple[AbuseSignalled, list[AbuseEvidence]] | None:
        signals = await standing.newest_signals(reader, _partitions(settings, ABUSE_SIGNALS.name))
        signal = signals.get((tenant, user_id))
        if signal is None:
            return None
        partitions = _partitions(settings, ABUSE_EVIDENCE.name)
        return signal, list(await standing.evidence_of(reader, partitions, (tenant, user_id), moment_ms))

    found = read_log(settings, find)
    if found is None:
        _fail_unsignalled(tenant)
    signal, evidence = found
    if as_json:
        shown = [one.model_dump(mode="json", exclude_none=True) for one in evidence]
        typer.echo(json.dumps({**_as_json(signal, moment_ms), "evidence": shown}, indent=2))
        return
    Console().print(_table([signal], moment_ms))
    for one in evidence:
        what = f"{one.kind} ({one.keys} keys)" if one.kind == "many_keys" else one.kind
        typer.echo(f"{moment_text(one.seen_at_ms)}  {what}  {one.turn_id or ''}".rstrip())


def lift(user_id: UserId, reason: Reason, tenant: Tenant = "public") -> None:
    """Let a user down from the ladder at once; what they did until now counts no more. Audited.

    Exit code 4: nothing was ever signalled about them, and nothing was done.
    """
    settings = require_settings()
    signals = read_log(
        settings, lambda reader: standing.newest_signals(reader, _partitions(settings, ABUSE_SIGNALS.name))
    )
    if (tenant, user_id) not in signals:
        _fail_unsignalled(tenant)

    async def work() -> None:
        async with KafkaProducer(settings.kafka) as producer:
            await standing.lift(producer, (tenant, user_id), now_ms())

    with audited(settings, LIFT, f"{tenant}/{user_id}", reason=reason):
        try:
            asyncio.run(work())
        except (Retryable, Fatal) as error:
            fail(f"the log did not take it: {error}", Exit.NOT_RUNNING)
    typer.echo("lifted")


def _fail_unsignalled(tenant: str) -> NoReturn:
    fail(f"nothing was signalled about this user of `{tenant}`; `turnstream abuse list --all`", Exit.NOT_FOUND)


def _partitions(settings: Settings, name: str) -> int:
    return next(plan.partitions for plan in planned_topics(settings) if plan.name == name)


def _as_json(signal: AbuseSignalled, moment_ms: int) -> dict[str, object]:
    level = standing.standing_at(signal, moment_ms)
    return {"stands_on": level.value, **signal.model_dump(mode="json", exclude_none=True)}


def _table(signals: list[AbuseSignalled], moment_ms: int) -> Table:
    names = ("tenant", "user", "level", "until (UTC)", "causes", "counts", "signalled (UTC)")
    table = Table(*(Column(name, no_wrap=True) for name in names), box=None)
    for signal in signals:
        level = standing.standing_at(signal, moment_ms)
        table.add_row(
            Text(signal.tenant_id),
            Text(signal.user_id),
            Text(level.value, _STYLES[level]),
            "-" if signal.until_ms is None else moment_text(signal.until_ms),
            ", ".join(signal.causes) or "-",
            ", ".join(f"{cause} {count}" for cause, count in sorted(signal.counts.items())) or "-",
            moment_text(signal.signalled_at_ms),
        )
    return table
