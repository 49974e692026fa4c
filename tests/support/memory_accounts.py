"""Users, sessions and keys in memory, and the directory of those who pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from producers.accounts.ports import ApiKeyRow, Login, Refreshed, RefreshOutcome, Session, User, UserChange
from schemas.accounts import Account, AccountChanged, ApiKeyCredential, Credential, KeyLimits
from schemas.errors import OutcomeUnknown
from schemas.plans import DEFAULT_PLAN


@dataclass
class MemoryUsers:
    """``Users`` over dictionaries."""

    users: dict[tuple[str, str], User] = field(default_factory=dict)
    logins: dict[str, Login] = field(default_factory=dict)

    async def find(self, tenant_id: str, user_id: str) -> User | None:
        return self.users.get((tenant_id, user_id))

    async def login(self, email: str) -> Login | None:
        return self.logins.get(email)

    async def register(self, user: User, password_hash: str) -> bool:
        email = user.email or ""
        present = self.logins.setdefault(email, Login(user.tenant_id, user.user_id, password_hash))
        if present.user_id != user.user_id:
            return False
        await self.add(user)
        return True

    async def add(self, user: User) -> None:
        self.users.setdefault((user.tenant_id, user.user_id), user)

    async def keep_password(self, email: str, password_hash: str) -> None:
        login = self.logins[email]
        self.logins[email] = Login(login.tenant_id, login.user_id, password_hash)

    async def change(self, tenant_id: str, user_id: str, change: UserChange, now_ms: int) -> None:
        del now_ms
        user = self.users[tenant_id, user_id]
        self.users[tenant_id, user_id] = replace(
            user,
            plan=user.plan if change.plan is None else change.plan,
            roles=user.roles if change.roles is None else change.roles,
            suspended=user.suspended if change.suspended is None else change.suspended,
        )

    async def page(self, tenant_id: str, after: str | None, limit: int) -> Sequence[User]:
        found = sorted(user_id for tenant, user_id in self.users if tenant == tenant_id and user_id > (after or ""))
        return [self.users[tenant_id, user_id] for user_id in found[:limit]]


@dataclass
class MemorySessions:
    """``Sessions`` over dictionaries."""

    sessions: dict[str, Session] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    async def begin(self, session: Session, now_ms: int) -> None:
        del now_ms
        self.sessions[session.session_id] = session

    async def refresh(self, session_id: str, used_hash: str, next_hash: str, now_ms: int) -> Refreshed:
        session = self.sessions.get(session_id)
        if session is None or session.expires_at_ms <= now_ms or session_id in self.ended:
            return Refreshed(RefreshOutcome.GONE)
        if session.refresh_hash != used_hash:
            rotated = session.refresh_hash == next_hash
            return Refreshed(RefreshOutcome.ROTATED if rotated else RefreshOutcome.REUSED, session)
        self.sessions[session_id] = replace(session, refresh_hash=next_hash)
        return Refreshed(RefreshOutcome.ROTATED, session)

    async def end(self, session_id: str, now_ms: int) -> Session | None:
        del now_ms
        session = self.sessions.get(session_id)
        if session is not None:
            self.ended.add(session_id)
        return session


@dataclass
class MemoryApiKeys:
    """``ApiKeys`` over a dictionary by key hash."""

    rows: dict[str, ApiKeyRow] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)

    async def create(self, row: ApiKeyRow) -> None:
        self.rows.setdefault(row.key_hash, row)

    async def of_user(self, tenant_id: str, user_id: str, limit: int) -> Sequence[ApiKeyRow]:
        mine = [row for row in self.rows.values() if (row.tenant_id, row.user_id) == (tenant_id, user_id)]
        return sorted((row for row in mine if not row.revoked), key=lambda row: row.key_id)[:limit]

    async def find(self, tenant_id: str, user_id: str, key_id: str) -> ApiKeyRow | None:
        for row in self.rows.values():
            if (row.tenant_id, row.user_id, row.key_id) == (tenant_id, user_id, key_id):
                return None if row.key_hash in self.forgotten else row
        return None

    async def revoke(self, row: ApiKeyRow, now_ms: int) -> None:
        del now_ms
        self.rows[row.key_hash] = replace(self.rows[row.key_hash], revoked=True)

    async def forget(self, row: ApiKeyRow) -> None:
        self.forgotten.add(row.key_hash)

    async def note_use(self, key_hash: str, used_at_ms: int) -> None:
        row = self.rows.get(key_hash)
        if row is not None:
            self.rows[key_hash] = replace(row, last_used_at_ms=max(used_at_ms, row.last_used_at_ms or 0))


@dataclass
class MemoryChanges:
    """``AccountChanges`` that a test reads; the next ``lost`` ones fail."""

    published: list[AccountChanged] = field(default_factory=list)
    lost: int = 0

    async def publish(self, change: AccountChanged) -> None:
        if self.lost:
            self.lost -= 1
            raise OutcomeUnknown("the append was lost")
        self.published.append(change)


@dataclass
class MemoryAccountRows:
    """The ``AccountDirectory`` over the same users, sessions and keys."""

    users: MemoryUsers = field(default_factory=MemoryUsers)
    sessions: MemorySessions = field(default_factory=MemorySessions)
    keys: MemoryApiKeys = field(default_factory=MemoryApiKeys)

    async def accounts(self, credentials: Sequence[Credential]) -> Mapping[str, Account]:
        found = {one.name: self._account(one) for one in credentials}
        return {name: account for name, account in found.items() if account is not None}

    def _account(self, credential: Credential) -> Account | None:
        account = self._of_key(credential.name) if isinstance(credential, ApiKeyCredential) else None
        if not isinstance(credential, ApiKeyCredential):
            session = self.sessions.sessions.get(credential.session_id)
            if session is None or credential.session_id in self.sessions.ended:
                return None
            account = Account(
                tenant_id=session.tenant_id, user_id=session.user_id, key_id=session.session_id, plan=DEFAULT_PLAN
            )
        if account is None:
            return None
        user = self.users.users.get((account.tenant_id, account.user_id))
        if user is None or user.suspended:
            return account if user is None and isinstance(credential, ApiKeyCredential) else None
        return account.model_copy(update={"plan": user.plan or account.plan, "roles": user.roles})

    def _of_key(self, key_hash: str) -> Account | None:
        row = self.keys.rows.get(key_hash)
        if row is None or row.revoked:
            return None
        limits = KeyLimits(requests_per_minute=row.requests_per_minute, tokens_per_minute=row.tokens_per_minute)
        return Account(
            tenant_id=row.tenant_id,
            user_id=row.user_id,
            key_id=row.key_id,
            plan=row.plan,
            models=row.models,
            limits=None if limits == KeyLimits() else limits,
            expires_at_ms=row.expires_at_ms,
        )
