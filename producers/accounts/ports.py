"""What accounts need from the world."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from schemas.accounts import AccountChanged, AccountRole
from schemas.ports import AccountDirectory


@dataclass(frozen=True, slots=True)
class User:
    """A person of a tenant. ``plan`` None: that of the key."""

    tenant_id: str
    user_id: str
    email: str | None
    plan: str | None
    roles: tuple[AccountRole, ...]
    suspended: bool
    created_at_ms: int


@dataclass(frozen=True, slots=True, repr=False)
class Login:
    """Who logs in with an address; ``password_hash`` carries its own salt and parameters."""

    tenant_id: str
    user_id: str
    password_hash: str


@dataclass(frozen=True, slots=True)
class UserChange:
    """What becomes of a user; None leaves it as it is."""

    plan: str | None = None
    roles: tuple[AccountRole, ...] | None = None
    suspended: bool | None = None


class Users(Protocol):
    """The users of all tenants. Every method raises Retryable."""

    async def find(self, tenant_id: str, user_id: str) -> User | None:
        """One user."""
        ...

    async def login(self, email: str) -> Login | None:
        """Who logs in with ``email``, if anybody does."""
        ...

    async def register(self, user: User, password_hash: str) -> bool:
        """Make ``user``, who has an e-mail address; False, and nothing is made, when the address has a login."""
        ...

    async def keep_password(self, email: str, password_hash: str) -> None:
        """Replace the hash of a login that exists."""
        ...

    async def change(self, tenant_id: str, user_id: str, change: UserChange, now_ms: int) -> None:
        """Change a user who exists."""
        ...

    async def page(self, tenant_id: str, after: str | None, limit: int) -> Sequence[User]:
        """Up to ``limit`` users of a tenant behind the user id ``after``, in an order that stays the same."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class Session:
    """A login that lasts. ``refresh_hash`` is of the one refresh token that may be used."""

    session_id: str
    tenant_id: str
    user_id: str
    refresh_hash: str
    expires_at_ms: int


class RefreshOutcome(StrEnum):
    """What became of a refresh token."""

    ROTATED = "rotated"
    REUSED = "reused"
    GONE = "gone"


@dataclass(frozen=True, slots=True, repr=False)
class Refreshed:
    """The outcome, and the session when there is one."""

    outcome: RefreshOutcome
    session: Session | None = None


class Sessions(Protocol):
    """Sessions by their id. Every method raises Retryable."""

    async def begin(self, session: Session, now_ms: int) -> None:
        """Keep a new session until it expires."""
        ...

    async def refresh(self, session_id: str, used_hash: str, next_hash: str, now_ms: int) -> Refreshed:
        """Replace the one token that may be used, once: of two that try, one gets REUSED. GONE: ended or expired."""
        ...

    async def end(self, session_id: str, now_ms: int) -> Session | None:
        """End a session, idempotently; what it was, or None when there is none (any more)."""
        ...


@dataclass(frozen=True, slots=True)
class ApiKeyRow:
    """One API key; ``key_hash`` is its keyed hash (64 hexadecimal characters), ``key_id`` its public name.

    ``plan`` holds where the user has none. Of what is None there is no limit.
    """

    key_hash: str
    key_id: str
    tenant_id: str
    user_id: str
    plan: str
    label: str
    created_at_ms: int
    revoked: bool = False
    expires_at_ms: int | None = None
    models: tuple[str, ...] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    last_used_at_ms: int | None = None


class ApiKeys(Protocol):
    """The keys of users. Every method raises Retryable."""

    async def create(self, row: ApiKeyRow) -> None:
        """Store a key, idempotently."""
        ...

    async def of_user(self, tenant_id: str, user_id: str, limit: int) -> Sequence[ApiKeyRow]:
        """Up to ``limit`` keys of a user that are not revoked, by their ids."""
        ...

    async def find(self, tenant_id: str, user_id: str, key_id: str) -> ApiKeyRow | None:
        """A key of this user's, also one whose revocation was not finished."""
        ...

    async def revoke(self, row: ApiKeyRow, now_ms: int) -> None:
        """Let the key pass no more. It is still found, so that whoever is interrupted here can finish."""
        ...

    async def forget(self, row: ApiKeyRow) -> None:
        """Take a revoked key off its user's list."""
        ...

    async def note_use(self, key_hash: str, used_at_ms: int) -> None:
        """Note when a key was used last; the newest note wins."""
        ...


class AccountChanges(Protocol):
    """Tells every process that what it knows of an account does not hold any more."""

    async def publish(self, change: AccountChanged) -> None:
        """Append to the log. Raises OutcomeUnknown."""
        ...


@dataclass(frozen=True, slots=True)
class AccountPorts:
    """The world as accounts see it; the composition root fills it in.

    ``now_ms`` is Unix time, ``monotonic_s`` measures durations, ``entropy`` gives that many random bytes.
    """

    directory: AccountDirectory
    users: Users
    sessions: Sessions
    keys: ApiKeys
    changes: AccountChanges
    now_ms: Callable[[], int]
    monotonic_s: Callable[[], float]
    entropy: Callable[[int], bytes]
