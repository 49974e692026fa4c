"""The JSON bodies of the accounts API, as they come and as they go. Pure."""

from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from producers.accounts.core import EMAIL_CHARS_MAX, LABEL_CHARS_MAX, MODELS_PER_KEY_MAX
from producers.accounts.ports import ApiKeyRow, User
from schemas.accounts import Account, AccountRole

_STRICT: Final = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
_PASSWORD_CHARS_MAX: Final = 4096
_TOKEN_CHARS_MAX: Final = 512
PLAN_CHARS_MAX: Final = 64
_SECONDS_MAX: Final = 4_102_444_800  # the year 2100
_PER_MINUTE_MAX: Final = 1_000_000_000
_SHOWN_PREFIX_CHARS: Final = 7


class Credentials(BaseModel):
    """``POST /v1/auth/register`` and ``/login``."""

    model_config = _STRICT

    email: str = Field(min_length=3, max_length=EMAIL_CHARS_MAX)
    password: SecretStr = Field(min_length=1, max_length=_PASSWORD_CHARS_MAX)


class RefreshBody(BaseModel):
    """``POST /v1/auth/refresh``."""

    model_config = _STRICT

    refresh_token: SecretStr = Field(min_length=1, max_length=_TOKEN_CHARS_MAX)


class LogoutBody(BaseModel):
    """``POST /v1/auth/logout``; without a token it is the session of the access token that ends."""

    model_config = _STRICT

    refresh_token: SecretStr | None = Field(default=None, min_length=1, max_length=_TOKEN_CHARS_MAX)


class KeyWanted(BaseModel):
    """``POST /v1/api_keys``. Of what is absent there is no limit beside the plan's."""

    model_config = _STRICT

    label: str = Field(default="", max_length=LABEL_CHARS_MAX)
    expires_at: int | None = Field(default=None, ge=1, le=_SECONDS_MAX, strict=True, description="Unix seconds.")
    models: tuple[str, ...] | None = Field(
        default=None, min_length=1, max_length=MODELS_PER_KEY_MAX, description="The only models that it may ask."
    )
    requests_per_minute: int | None = Field(default=None, ge=1, le=_PER_MINUTE_MAX, strict=True)
    tokens_per_minute: int | None = Field(default=None, ge=1, le=_PER_MINUTE_MAX, strict=True)


class UserWanted(BaseModel):
    """``POST /v1/admin/users/{id}``; what is absent stays."""

    model_config = _STRICT

    plan: str | None = Field(default=None, min_length=1, max_length=PLAN_CHARS_MAX)
    roles: tuple[AccountRole, ...] | None = Field(default=None, max_length=len(AccountRole))
    suspended: bool | None = Field(default=None, strict=True)


def user_body(user: User) -> dict[str, Any]:
    """A user, as the user and the admins see them."""
    return {
        "id": user.user_id,
        "object": "user",
        "tenant_id": user.tenant_id,
        "email": user.email,
        "plan": user.plan,
        "roles": [role.value for role in user.roles],
        "suspended": user.suspended,
        "created_at": user.created_at_ms // 1000,
    }


def me_body(account: Account, user: User | None, kind: str) -> dict[str, Any]:
    """Who asks, by what; of a user without a row of their own what the key says."""
    return {
        "id": account.user_id,
        "object": "user",
        "tenant_id": account.tenant_id,
        "email": None if user is None else user.email,
        "plan": account.plan,
        "roles": [role.value for role in account.roles],
        "suspended": False,
        "created_at": None if user is None else user.created_at_ms // 1000,
        "credential": {"type": kind, "id": account.key_id},
    }


def session_body(user: User, access_token: str, access_seconds: int, refresh_token: str) -> dict[str, Any]:
    """The tokens of a session, in the terms of OAuth 2 (RFC 6749, section 5.1), and whose they are."""
    return {
        "object": "session",
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": access_seconds,
        "refresh_token": refresh_token,
        "user": user_body(user),
    }


def key_body(row: ApiKeyRow, text: str | None = None) -> dict[str, Any]:
    """A key; its ``text`` is shown at its making alone."""
    body = {
        "id": row.key_id,
        "object": "api_key",
        "prefix": f"ts-{row.key_id}"[:_SHOWN_PREFIX_CHARS],
        "label": row.label,
        "created_at": row.created_at_ms // 1000,
        "expires_at": None if row.expires_at_ms is None else row.expires_at_ms // 1000,
        "last_used_at": None if row.last_used_at_ms is None else row.last_used_at_ms // 1000,
        "models": None if row.models is None else list(row.models),
        "requests_per_minute": row.requests_per_minute,
        "tokens_per_minute": row.tokens_per_minute,
    }
    return body if text is None else {**body, "key": text}


def list_body(data: Sequence[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """OpenAI's list object."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }
