"""The routes of accounts: sessions, keys of one's own, users of one's tenant."""

from typing import Annotated, Final, TypeVar

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from producers.accounts.access_tokens import AccessTokens
from producers.accounts.bodies import Credentials, KeyWanted, LogoutBody, RefreshBody, UserWanted
from producers.accounts.own_keys import OwnKeys
from producers.accounts.stage import Logins
from producers.accounts.tenant_users import TenantUsers
from producers.http.body import read_body
from producers.http.callers import Callers
from producers.http.routing import error_responses, json_body
from producers.http.validation import parse_body

PAGE_MAX: Final = 100
PAGE_DEFAULT: Final = 20

_ID_CHARS_MAX: Final = 128
_BODY_BYTES_MAX: Final = 16_384
_BODY_SECONDS_MAX: Final = 10
# A public key may be used for so long after it was taken out of the set.
_KEYS_CACHED: Final = {"cache-control": "public, max-age=300"}
_PUBLIC: Final[dict[str, object]] = {"security": []}
_SECRET: Final = {"cache-control": "no-store"}
_ModelT = TypeVar("_ModelT", bound=BaseModel)

KeyId = Annotated[str, Path(max_length=_ID_CHARS_MAX)]


def session_routes(callers: Callers, logins: Logins, tokens: AccessTokens) -> APIRouter:
    """Registration, sessions and the keys with which others check access tokens."""
    router = APIRouter(tags=["Sessions"])
    _add_token_routes(router, logins)

    @router.post(
        "/v1/auth/logout",
        summary="End a session",
        status_code=204,
        openapi_extra=json_body(LogoutBody.model_json_schema(), required=False),
        responses=error_responses(400, 401, 408, 413, 503),
    )
    async def logout(request: Request) -> Response:
        wanted = await _body(LogoutBody, request, empty_as=b"{}")
        if wanted.refresh_token is not None:
            await logins.logout(wanted.refresh_token.get_secret_value())
        else:
            await logins.end_session(await callers.account(request.headers))
        return Response(status_code=204)

    @router.get("/v1/auth/me", summary="Who asks", responses=error_responses(401, 503))
    async def me(request: Request) -> Response:
        return JSONResponse(await logins.me(await callers.account(request.headers)), headers=_SECRET)

    @router.get("/.well-known/jwks.json", summary="The keys that sign access tokens")
    async def jwks() -> Response:
        return JSONResponse(tokens.public_keys, headers=_KEYS_CACHED)

    return router


def _add_token_routes(router: APIRouter, logins: Logins) -> None:
    @router.post(
        "/v1/auth/register",
        summary="Register with an e-mail address and a password",
        status_code=201,
        openapi_extra=json_body(Credentials.model_json_schema()) | _PUBLIC,
        responses=error_responses(400, 403, 408, 409, 413, 429, 503),
    )
    async def register(request: Request) -> Response:
        wanted = await _body(Credentials, request)
        return JSONResponse(await logins.register(wanted, _host(request)), 201, _SECRET)

    @router.post(
        "/v1/auth/login",
        summary="Log in",
        openapi_extra=json_body(Credentials.model_json_schema()) | _PUBLIC,
        responses=error_responses(400, 401, 403, 408, 413, 429, 503),
    )
    async def login(request: Request) -> Response:
        wanted = await _body(Credentials, request)
        return JSONResponse(await logins.login(wanted, _host(request)), headers=_SECRET)

    @router.post(
        "/v1/auth/refresh",
        summary="Exchange a refresh token for the next tokens",
        openapi_extra=json_body(RefreshBody.model_json_schema()) | _PUBLIC,
        responses=error_responses(400, 401, 403, 408, 413, 429, 503),
    )
    async def refresh(request: Request) -> Response:
        wanted = await _body(RefreshBody, request)
        text = wanted.refresh_token.get_secret_value()
        return JSONResponse(await logins.refresh(text, _host(request)), headers=_SECRET)


def key_routes(callers: Callers, keys: OwnKeys) -> APIRouter:
    """The API keys of the caller."""
    router = APIRouter(tags=["API keys"])

    @router.post(
        "/v1/api_keys",
        summary="Make an API key; its text is shown this once",
        status_code=201,
        openapi_extra=json_body(KeyWanted.model_json_schema(), required=False),
        responses=error_responses(400, 401, 403, 408, 413, 503),
    )
    async def create(request: Request) -> Response:
        account = await callers.account(request.headers)
        wanted = await _body(KeyWanted, request, empty_as=b"{}")
        return JSONResponse(await keys.create(account, wanted), 201, _SECRET)

    @router.get("/v1/api_keys", summary="List your API keys", responses=error_responses(401, 503))
    async def list_keys(request: Request) -> Response:
        return JSONResponse(await keys.list(await callers.account(request.headers)))

    @router.get("/v1/api_keys/{key_id}", summary="Show an API key", responses=error_responses(400, 401, 404, 503))
    async def show(key_id: KeyId, request: Request) -> Response:
        return JSONResponse(await keys.show(await callers.account(request.headers), key_id))

    @router.delete("/v1/api_keys/{key_id}", summary="Revoke an API key", responses=error_responses(400, 401, 404, 503))
    async def revoke(key_id: KeyId, request: Request) -> Response:
        return JSONResponse(await keys.revoke(await callers.account(request.headers), key_id))

    return router


def admin_routes(callers: Callers, users: TenantUsers) -> APIRouter:
    """The users of the caller's tenant, for its admins."""
    router = APIRouter(tags=["Administration"])

    @router.get(
        "/v1/admin/users", summary="List the users of your tenant", responses=error_responses(400, 401, 403, 503)
    )
    async def list_users(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
        after: Annotated[str | None, Query(max_length=_ID_CHARS_MAX)] = None,
    ) -> Response:
        return JSONResponse(await users.list(await callers.account(request.headers), after, limit))

    @router.post(
        "/v1/admin/users/{user_id}",
        summary="Change a user's plan and roles, or suspend them",
        openapi_extra=json_body(UserWanted.model_json_schema()),
        responses=error_responses(400, 401, 403, 404, 408, 409, 413, 503),
    )
    async def change_user(user_id: KeyId, request: Request) -> Response:
        account = await callers.account(request.headers)
        return JSONResponse(await users.change(account, user_id, await _body(UserWanted, request)))

    return router


async def _body(model: type[_ModelT], request: Request, *, empty_as: bytes = b"") -> _ModelT:
    body = await read_body(request.headers, request.receive, _BODY_BYTES_MAX, _BODY_SECONDS_MAX)
    return parse_body(model, body or empty_as)


def _host(request: Request) -> str | None:
    return None if request.client is None else request.client.host
