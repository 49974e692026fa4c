"""Logging in and out: from a password to a session, from one refresh token to the next."""

from typing import Any, Final

import structlog

from producers.accounts import core
from producers.accounts.access_tokens import AccessTokens, SessionName
from producers.accounts.attempts import AttemptLimit, network_of
from producers.accounts.bodies import Credentials, me_body, session_body
from producers.accounts.core import AccountsSettings
from producers.accounts.passwords import Passwords
from producers.accounts.ports import AccountPorts, RefreshOutcome, Session, User
from producers.accounts.refresh_tokens import (
    SECRET_ENTROPY_BYTES,
    SESSION_ENTROPY_BYTES,
    RefreshToken,
    RefreshTokens,
    base32,
)
from producers.http.refused import RequestRefused
from schemas.accounts import Account, AccountChanged, AccountRole
from schemas.errors import invalid_request

_LOG: Final = structlog.get_logger(__name__)
_DAY_MS: Final = 86_400_000
_TOKEN_ID_BYTES: Final = 12


class Logins:
    """Registration and sessions. Every method raises RequestRefused for the client's part and Retryable for ours."""

    def __init__(
        self, ports: AccountPorts, settings: AccountsSettings, access: AccessTokens, refresh: RefreshTokens
    ) -> None:
        self._ports = ports
        self._settings = settings
        self._access = access
        self._refresh = refresh
        self._passwords = Passwords(settings)
        self._by_address = AttemptLimit(settings.attempts_per_minute_address, settings.attempt_entries_max)
        self._by_email = AttemptLimit(settings.attempts_per_minute_email, settings.attempt_entries_max)

    async def register(self, wanted: Credentials, host: str | None) -> dict[str, Any]:
        """A new user of the tenant of those who register themselves, logged in."""
        settings = self._settings
        if not settings.registration_open:
            raise RequestRefused(core.registration_closed())
        self._count(self._by_address, network_of(host))
        email = _email(wanted)
        password = core.password_text(wanted.password.get_secret_value(), email, settings)
        if password is None:
            limits = f"{settings.password_chars_min} to {settings.password_chars_max} characters"
            raise RequestRefused(
                invalid_request(f"A password has {limits} and is not the address.", "password", "invalid_password")
            )
        user = User(
            tenant_id=settings.registration_tenant,
            user_id=core.USER_PREFIX + base32(self._ports.entropy(SESSION_ENTROPY_BYTES)),
            email=email,
            plan=settings.registration_plan,
            roles=(AccountRole.USER,),
            suspended=False,
            created_at_ms=self._ports.now_ms(),
        )
        if not await self._ports.users.register(user, await self._passwords.hash(password)):
            raise RequestRefused(core.email_taken())
        _LOG.info("user_registered", tenant_id=user.tenant_id, user_id=user.user_id)
        return await self._begin(user)

    async def login(self, wanted: Credentials, host: str | None) -> dict[str, Any]:
        """A session for who knows the password."""
        self._count(self._by_address, network_of(host))
        email = _email(wanted)
        self._count(self._by_email, email)
        login = await self._ports.users.login(email)
        # One that could not have been chosen is checked all the same: the time must not tell it.
        text = wanted.password.get_secret_value()
        password = core.password_text(text, email, self._settings) or text[: self._settings.password_chars_max]
        if not await self._passwords.check(password, None if login is None else login.password_hash) or login is None:
            raise RequestRefused(core.invalid_login())
        user = await self._ports.users.find(login.tenant_id, login.user_id)
        if user is None or user.suspended:
            raise RequestRefused(core.account_suspended())
        if self._passwords.is_outdated(login.password_hash):
            await self._ports.users.keep_password(email, await self._passwords.hash(password))
        return await self._begin(user)

    async def refresh(self, text: str, host: str | None) -> dict[str, Any]:
        """The next tokens of a session. A token that was used before ends the session: one of two holders stole it."""
        self._count(self._by_address, network_of(host))
        ports = self._ports
        used = self._refresh.parse(text)
        if used is None:
            raise RequestRefused(core.invalid_refresh_token())
        following = self._refresh.make(used.session_id, ports.entropy(SECRET_ENTROPY_BYTES))
        refreshed = await ports.sessions.refresh(used.session_id, used.kept, following.kept, ports.now_ms())
        if refreshed.outcome is RefreshOutcome.REUSED:
            _LOG.warning("refresh_token_reused", session_id=used.session_id)
            await self._end(used.session_id, "refresh_token_reused")
        if refreshed.outcome is not RefreshOutcome.ROTATED or refreshed.session is None:
            raise RequestRefused(core.invalid_refresh_token())
        user = await ports.users.find(refreshed.session.tenant_id, refreshed.session.user_id)
        if user is None or user.suspended:
            raise RequestRefused(core.account_suspended())
        return self._tokens(user, following)

    async def logout(self, refresh_token: str) -> None:
        """End the session of a refresh token; nothing happens for one that we did not make."""
        token = self._refresh.parse(refresh_token)
        if token is None:
            raise RequestRefused(core.invalid_refresh_token())
        await self._end(token.session_id, "logged_out")

    async def end_session(self, account: Account) -> None:
        """End the session that ``account`` was resolved from."""
        refusal = core.require_session(account)
        if refusal is not None:
            raise RequestRefused(refusal)
        await self._end(account.key_id, "logged_out")

    async def me(self, account: Account) -> dict[str, Any]:
        """Who asks."""
        kind = "session" if core.require_session(account) is None else "api_key"
        return me_body(account, await self._ports.users.find(account.tenant_id, account.user_id), kind)

    async def _begin(self, user: User) -> dict[str, Any]:
        ports = self._ports
        session_id = core.SESSION_PREFIX + base32(ports.entropy(SESSION_ENTROPY_BYTES))
        token = self._refresh.make(session_id, ports.entropy(SECRET_ENTROPY_BYTES))
        now_ms = ports.now_ms()
        session = Session(
            session_id=session_id,
            tenant_id=user.tenant_id,
            user_id=user.user_id,
            refresh_hash=token.kept,
            expires_at_ms=now_ms + self._settings.session_days * _DAY_MS,
        )
        await ports.sessions.begin(session, now_ms)
        return self._tokens(user, token)

    def _tokens(self, user: User, token: RefreshToken) -> dict[str, Any]:
        name = SessionName(user.tenant_id, user.user_id, token.session_id)
        access = self._access.make(name, self._ports.entropy(_TOKEN_ID_BYTES).hex())
        return session_body(user, access, self._settings.access_seconds, token.text)

    async def _end(self, session_id: str, reason: str) -> None:
        session = await self._ports.sessions.end(session_id, self._ports.now_ms())
        if session is None:
            return
        await self._ports.changes.publish(
            AccountChanged(
                subject="session",
                subject_id=session_id,
                tenant_id=session.tenant_id,
                user_id=session.user_id,
                access_lost=True,
                reason=reason,
                changed_at_ms=self._ports.now_ms(),
            )
        )

    def _count(self, limit: AttemptLimit, name: str) -> None:
        retry_after_s = limit.attempt(name, self._ports.monotonic_s())
        if retry_after_s is not None:
            raise RequestRefused(core.too_many_attempts(retry_after_s))


def _email(wanted: Credentials) -> str:
    try:
        return core.email_address(wanted.email)
    except ValueError:
        raise RequestRefused(invalid_request("'email' is not an e-mail address.", "email", "invalid_value")) from None
