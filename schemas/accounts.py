"""Who asks, and how they proved it."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from schemas.event import Event, unset


class AccountRole(StrEnum):
    """What an account may do beside chatting."""

    USER = "user"
    OPERATOR = "operator"
    ANALYST = "analyst"
    ADMIN = "admin"


class ApiKeyCredential(Event):
    """An API key, never its text: it travels as its keyed hash."""

    kind: Literal["api_key"] = "api_key"
    key_hash: str = Field(pattern="^[0-9a-f]{64}$", description="HMAC-SHA-256 of the key under the server's pepper.")

    @property
    def name(self) -> str:
        """What tells this credential from every other one, of either kind."""
        return self.key_hash


class SessionCredential(Event):
    """The claims of an access token that the edge has verified; the token itself stays there."""

    kind: Literal["session"] = "session"
    tenant_id: str
    user_id: str
    session_id: str
    expires_at_ms: int = Field(ge=0, description="Unix milliseconds.")

    @property
    def name(self) -> str:
        """The session, whichever of its tokens it was."""
        return self.session_id


Credential = Annotated[ApiKeyCredential | SessionCredential, Field(discriminator="kind")]


class KeyLimits(Event):
    """Limits of one API key, inside those of its account's plan. None: no limit of its own."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)


class Account(Event):
    """Who asks, as it was resolved. ``key_id`` is that of the API key, or the session's id.

    ``models`` are those that the key is confined to; None: all of the plan.
    """

    tenant_id: str
    user_id: str
    key_id: str
    plan: str
    roles: tuple[AccountRole, ...] = Field(default=(), exclude_if=unset)
    models: tuple[str, ...] | None = None
    limits: KeyLimits | None = None
    expires_at_ms: int | None = Field(
        default=None, exclude_if=unset, description="Unix milliseconds from which the key passes no more."
    )

    slowed_to: int | None = Field(
        default=None, ge=1, exclude_if=unset, description="Requests per minute, however many the plan allows."
    )

    def has_expired(self, now_ms: int) -> bool:
        """Whether the key passes no more at ``now_ms``, in Unix milliseconds."""
        return self.expires_at_ms is not None and self.expires_at_ms <= now_ms

    def may_ask(self, model: str) -> bool:
        """Whether the key is not confined to other models; the plan has its own say."""
        return self.models is None or model in self.models


class AccountChanged(Event):
    """``accounts.changes.v1``: what was known of a key, a session or a user does not hold any more.

    A hint: the tables have the truth. Whoever caches it forgets it; whoever streams under it ends the stream when
    ``access_lost``. ``subject_id`` is the key's or the session's id, or the user's.
    """

    subject: Literal["api_key", "session", "user"]
    subject_id: str
    tenant_id: str
    user_id: str
    key_hash: str | None = None
    access_lost: bool
    reason: str = Field(description="For operators and the client's error: revoked, expired, logged_out, suspended ...")
    changed_at_ms: int = Field(ge=0)

    def concerns(self, account: Account) -> bool:
        """Whether what is known of ``account`` does not hold any more."""
        if (account.tenant_id, account.user_id) != (self.tenant_id, self.user_id):
            return False
        return self.subject == "user" or account.key_id == self.subject_id
