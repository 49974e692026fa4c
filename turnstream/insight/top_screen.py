"""An overview on a terminal."""

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from turnstream.insight.overview import EdgeView, Overview

_BAD = "bold red"


def render_overview(overview: Overview) -> RenderableType:
    """The screen: edge, pools, stages, failures, and who does not answer."""
    parts: list[RenderableType] = [_edge_line(overview.edge, overview.seconds), "", _pools(overview), ""]
    parts += [_stages(overview), "", _failures(overview)]
    for process in overview.processes:
        if not process.answers:
            parts.append(Text(f"{process.process} does not answer ({process.problem})", style=_BAD))
    if overview.lag_problem is not None:
        parts.append(Text(f"no lag: {overview.lag_problem}", style=_BAD))
    return Group(*parts)


def _edge_line(edge: EdgeView, seconds: float) -> Text:
    first = f"{_ms(edge.first_text_p50_ms)} / {_ms(edge.first_text_p99_ms)}"
    told = (
        ("requests/s", f"{edge.requests_per_s:g}"),
        ("streams", str(edge.streams_open)),
        ("first text p50 / p99", first),
        ("queue", _ms(edge.queue_ms)),
        ("gaps", str(edge.gaps)),
        ("over", f"{seconds:.1f} s"),
    )
    line = Text()
    for name, value in told:
        line.append(f"{name} ", style="dim").append(f"{value}   ")
    return line


def _pools(overview: Overview) -> Table:
    numbers = ("turns/s", "tokens/s", "in flight", "TTFT p50", "TTFT p99", "errors/s")
    table = _table("pool", *numbers, "breaker")
    for pool in overview.pools:
        table.add_row(
            Text(pool.pool),
            f"{pool.turns_per_s:g}",
            f"{pool.tokens_per_s:g}",
            str(pool.in_flight),
            _ms(pool.first_token_p50_ms),
            _ms(pool.first_token_p99_ms),
            Text(f"{pool.errors_per_s:g}", style=_BAD if pool.errors_per_s else ""),
            Text("open", style=_BAD) if pool.breaker_open else Text("closed"),
        )
    return table


def _stages(overview: Overview) -> Table:
    table = _table("stage", "records/s", "lag", "behind", "members", "retries/s", "letters")
    for stage in overview.stages:
        table.add_row(
            Text(stage.stage),
            f"{stage.records_per_s:g}",
            _known(stage.lag_records),
            _ms(stage.lag_ms) if stage.members is not None else "-",
            Text(_known(stage.members), style=_BAD if stage.members == 0 else ""),
            Text(f"{stage.retries_per_s:g}", style=_BAD if stage.retries_per_s else ""),
            Text(str(stage.dead_letters), style=_BAD if stage.dead_letters else ""),
        )
    return table


def _failures(overview: Overview) -> RenderableType:
    if not overview.failures:
        return Text("no refusals or errors", style="dim")
    table = _table("refused or failed by", "code", "per s")
    for failure in overview.failures:
        table.add_row(Text(failure.where), Text(failure.code), f"{failure.per_s:g}")
    return table


def _table(first: str, *numbers: str) -> Table:
    columns = (Column(name, justify="right", min_width=len(name)) for name in numbers)
    name = Column(first, min_width=17, overflow="fold")
    # All pools fit into 80 columns.
    return Table(name, *columns, box=None, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False)


def _ms(value: int | None) -> str:
    return "-" if value is None else f"{value} ms"


def _known(value: int | None) -> str:
    return "-" if value is None else str(value)
