"""Two samples of the metrics and the lag -> what ``turnstream top`` shows. Pure."""

from collections.abc import Iterable
from typing import Final

from pydantic import BaseModel, ConfigDict

from schemas.events import FinishReason
from turnstream.insight.lag import GroupLag, LagReport
from turnstream.insight.scrape import Change, Sample

GROUP_PREFIX: Final = "turnstream."
_MS: Final = 1000


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class ProcessView(_Frozen):
    """One process; ``problem`` says why nothing is known of it."""

    process: str
    answers: bool
    problem: str | None


class StageView(_Frozen):
    """One stage over all its members. ``lag_records``, ``lag_ms`` and ``members`` are None when Kafka did not tell."""

    stage: str
    records_per_s: float
    retries_per_s: float
    dead_letters: int
    lag_records: int | None
    lag_ms: int | None
    members: int | None


class PoolView(_Frozen):
    """One pool over all its inference processes. Times of the first token are in ms, None without a turn."""

    pool: str
    turns_per_s: float
    tokens_per_s: float
    prompt_tokens_per_s: float
    in_flight: int
    first_token_p50_ms: int | None
    first_token_p99_ms: int | None
    errors_per_s: float
    breaker_open: bool


class EdgeView(_Frozen):
    """All edges together: requests, open streams, and the waits that clients felt, in ms."""

    requests_per_s: float
    streams_open: int
    first_text_p50_ms: int | None
    first_text_p99_ms: int | None
    queue_ms: int
    gaps: int


class FailureView(_Frozen):
    """How often a code went to clients: ``where`` is the stage that refused, ``stream`` or ``http``."""

    where: str
    code: str
    per_s: float


class Overview(_Frozen):
    """One screen. ``seconds``: the time over which rates and quantiles are taken."""

    seconds: float
    processes: tuple[ProcessView, ...]
    edge: EdgeView
    stages: tuple[StageView, ...]
    pools: tuple[PoolView, ...]
    failures: tuple[FailureView, ...]
    lag_problem: str | None


def build_overview(before: Sample, after: Sample, lag: LagReport | None, lag_problem: str | None = None) -> Overview:
    """What happened between the samples, and the lag at the end of it."""
    change = Change(before, after)
    return Overview(
        seconds=round(change.seconds, 3),
        processes=tuple(
            ProcessView(process=one.process, answers=one.series is not None, problem=one.problem)
            for one in after.scrapes
        ),
        edge=_edge(change),
        stages=tuple(_stages(change, lag)),
        pools=tuple(_pool(change, pool) for pool in _pools(change)),
        failures=tuple(_failures(change)),
        lag_problem=lag_problem,
    )


def _edge(change: Change) -> EdgeView:
    waits = [value for _, _, value in change.values("turnstream_queue_seconds_predicted")]
    return EdgeView(
        requests_per_s=round(change.rate("turnstream_http_requests_total"), 2),
        streams_open=int(sum(value for _, _, value in change.values("turnstream_streams_open"))),
        first_text_p50_ms=_ms(change.quantile("turnstream_edge_first_text_seconds", 0.5)),
        first_text_p99_ms=_ms(change.quantile("turnstream_edge_first_text_seconds", 0.99)),
        queue_ms=int(max(waits, default=0.0) * _MS),
        gaps=int(sum(change.grown("turnstream_stream_gaps_total").values())),
    )


def _stages(change: Change, lag: LagReport | None) -> Iterable[StageView]:
    groups = {group.group.removeprefix(GROUP_PREFIX): group for group in lag.groups} if lag else {}
    records = change.rates("turnstream_records_total", "stage")
    retries = change.rates("turnstream_record_retries_total", "stage")
    letters = change.grown("turnstream_dead_letters_total", "stage")
    measured = sorted({stage for (stage,) in (*records, *retries, *letters)} - groups.keys())
    for stage in (*groups, *measured):
        group: GroupLag | None = groups.get(stage)
        yield StageView(
            stage=stage,
            records_per_s=round(records.get((stage,), 0.0), 2),
            retries_per_s=round(retries.get((stage,), 0.0), 2),
            dead_letters=int(letters.get((stage,), 0)),
            lag_records=group.records if group else None,
            lag_ms=group.age_ms if group else None,
            members=group.members if group else None,
        )


def _pools(change: Change) -> list[str]:
    gauges = change.total("turnstream_turns_in_flight", "pool").keys()
    return sorted({*gauges, *(pool for (pool,) in change.grown("turnstream_turns_total", "pool"))})


def _pool(change: Change, pool: str) -> PoolView:
    tokens = change.rates("turnstream_tokens_total", "kind", pool=pool)
    breakers = [value for _, labels, value in change.values("turnstream_pool_breaker_open") if labels["pool"] == pool]
    return PoolView(
        pool=pool,
        turns_per_s=round(change.rate("turnstream_turns_total", pool=pool), 2),
        tokens_per_s=round(tokens.get(("completion",), 0.0), 1),
        prompt_tokens_per_s=round(tokens.get(("prompt",), 0.0), 1),
        in_flight=int(change.total("turnstream_turns_in_flight", "pool").get(pool, 0)),
        first_token_p50_ms=_ms(change.quantile("turnstream_first_token_seconds", 0.5, pool=pool)),
        first_token_p99_ms=_ms(change.quantile("turnstream_first_token_seconds", 0.99, pool=pool)),
        errors_per_s=round(
            change.rate("turnstream_turns_total", pool=pool, finish_reason=FinishReason.FAILED.value), 2
        ),
        breaker_open=any(breakers),
    )


def _failures(change: Change) -> Iterable[FailureView]:
    every = change.rates("turnstream_refusals_total", "stage", "code")
    for (code,), rate in change.rates("turnstream_stream_errors_total", "code").items():
        every["stream", code] = rate
    for (status,), rate in change.rates("turnstream_http_requests_total", "status").items():
        if status >= "400":
            every["http", status] = rate
    listed = sorted(every.items(), key=lambda one: -one[1])
    return (FailureView(where=place[0], code=place[1], per_s=round(rate, 2)) for place, rate in listed if rate > 0)


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * _MS)
