"""The routes of usage and costs: always one's own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from producers.http.callers import Callers
from producers.http.refused import RequestRefused
from producers.http.routing import error_responses
from producers.usage.core import (
    BUCKETS,
    COST_BUCKETS,
    S_PER_DAY,
    TIME_S_MAX,
    WIDTHS_S,
    Filters,
    GroupBy,
    Span,
    Width,
    cost_buckets,
    page_of,
    span,
    usage_buckets,
)
from schemas.errors import invalid_request
from schemas.models import ModelCard, by_id
from schemas.ports import Owner, UsageRow, UsageRows

_MS_PER_S: Final = 1_000
Seconds = Annotated[int, Query(ge=0, le=TIME_S_MAX, description="Unix seconds.")]
MaybeSeconds = Annotated[int | None, Query(ge=0, le=TIME_S_MAX, description="Unix seconds; absent: now.")]
Limit = Annotated[int | None, Query(ge=1, description="Buckets of a page.")]
Groups = Annotated[list[GroupBy] | None, Query(description="Also spelled `group_by[]`.")]
BracketGroups = Annotated[list[GroupBy] | None, Query(alias="group_by[]", include_in_schema=False)]
Names = Annotated[tuple[str, ...], Query()]
ERRORS: Final = (400, 401, 503)


@dataclass(frozen=True, slots=True)
class _Own:
    """What is known of whoever asks."""

    callers: Callers
    rows: UsageRows
    now_ms: Callable[[], int]

    async def rows_of(self, request: Request, of: Span) -> Sequence[UsageRow]:
        account = await self.callers.account(request.headers)
        return await self.rows.days(Owner(account.tenant_id, account.user_id), *of.days)

    def end_s(self, asked_s: int | None, start_s: int) -> int:
        # A start in the future has nothing to show, but is no mistake.
        return max(self.now_ms() // _MS_PER_S, start_s) + 1 if asked_s is None else asked_s


def usage_routes(
    callers: Callers, rows: UsageRows, cards: tuple[ModelCard, ...], now_ms: Callable[[], int]
) -> APIRouter:
    """Usage by minute, hour or day, and costs by day, of whoever asks."""
    router = APIRouter(tags=["Usage"])
    own = _Own(callers, rows, now_ms)
    _add_usage(router, own)
    _add_costs(router, own, by_id(cards))
    return router


def _add_usage(router: APIRouter, own: _Own) -> None:
    @router.get("/v1/organization/usage/completions", summary="Show your usage", responses=error_responses(*ERRORS))
    async def completions_usage(
        request: Request,
        start_time: Seconds,
        *,
        end_time: MaybeSeconds = None,
        bucket_width: Width = "1d",
        group_by: Groups = None,
        group_by_brackets: BracketGroups = None,
        models: Names = (),
        api_key_ids: Names = (),
        user_ids: Names = (),
        limit: Limit = None,
        page: str | None = None,
    ) -> Response:
        buckets = _limit(limit, *BUCKETS[bucket_width])
        of = span(start_time, own.end_s(end_time, start_time), WIDTHS_S[bucket_width], buckets, page)
        filters = Filters(models, api_key_ids, user_ids)
        groups = (*(group_by or ()), *(group_by_brackets or ()))
        return JSONResponse(page_of(usage_buckets(await own.rows_of(request, of), of, filters, groups), of))


def _add_costs(router: APIRouter, own: _Own, catalogue: Mapping[str, ModelCard]) -> None:
    @router.get("/v1/organization/costs", summary="Show your costs", responses=error_responses(*ERRORS))
    async def costs(
        request: Request,
        start_time: Seconds,
        *,
        end_time: MaybeSeconds = None,
        bucket_width: Literal["1d"] = "1d",
        group_by: Groups = None,
        group_by_brackets: BracketGroups = None,
        api_key_ids: Names = (),
        limit: Limit = None,
        page: str | None = None,
    ) -> Response:
        del bucket_width
        of = span(start_time, own.end_s(end_time, start_time), S_PER_DAY, _limit(limit, *COST_BUCKETS), page)
        filters = Filters(api_key_ids=api_key_ids)
        groups = (*(group_by or ()), *(group_by_brackets or ()))
        return JSONResponse(page_of(cost_buckets(await own.rows_of(request, of), of, filters, groups, catalogue), of))


def _limit(asked: int | None, default: int, most: int) -> int:
    if asked is not None and asked > most:
        raise RequestRefused(invalid_request(f"'limit' may be at most {most} here.", "limit", "invalid_value"))
    return asked or default
