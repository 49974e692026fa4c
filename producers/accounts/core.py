"""What may be done with accounts, sessions and keys, and in which words it is refused. Pure."""

import re
import unicodedata
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from schemas.accounts import Account, AccountRole
from schemas.errors import ErrorBody, ErrorType, Refusal, invalid_request

USER_PREFIX: Final = "user_"
SESSION_PREFIX: Final = "sess_"
LABEL_CHARS_MAX: Final = 200
EMAIL_CHARS_MAX: Final = 254
MODELS_PER_KEY_MAX: Final = 64

_EMAIL: Final = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,250}")


class AccountsSettings(BaseModel):
    """Limits of registration, sessions and keys."""

    model_config = ConfigDict(frozen=True)

    registration_open: bool = Field(default=True, description="Whether anybody may register; else an operator does.")
    registration_tenant: str = Field(default="public", description="The tenant of those who register themselves.")
    registration_plan: str = Field(default="free", description="Their plan.")
    issuer: str = Field(default="turnstream", min_length=1, description="`iss` of access tokens.")
    audience: str = Field(default="turnstream-api", min_length=1, description="`aud` of access tokens.")
    access_seconds: int = Field(default=600, ge=10, description="Life of an access token.")
    clock_skew_seconds_max: int = Field(default=5, ge=0, description="Between the clocks of two edges.")
    session_days: int = Field(default=30, ge=1, description="Life of a session, however often it is refreshed.")
    password_chars_min: int = Field(default=10, ge=8)
    password_chars_max: int = Field(default=256, ge=64)
    password_memory_kib: int = Field(default=65_536, ge=8, description="argon2id; RFC 9106, second recommendation.")
    password_passes: int = Field(default=3, ge=1)
    password_lanes: int = Field(default=4, ge=1)
    password_checks_in_flight_max: int = Field(default=2, ge=1, description="Each takes the memory above, and a core.")
    password_checks_waiting_max: int = Field(default=64, ge=0, description="Beyond it: 503.")
    attempts_per_minute_address: int = Field(
        default=60, ge=1, description="Registrations, logins and refreshes from one address, at each edge."
    )
    attempts_per_minute_email: int = Field(default=10, ge=1, description="Logins to one account, at each edge.")
    attempt_entries_max: int = Field(default=50_000, ge=1, description="Addresses and accounts that are remembered.")
    keys_per_user_max: int = Field(default=100, ge=1, description="API keys of one user that are not revoked.")


def email_address(text: str) -> str:
    """The address under which a login is kept. Raises ValueError for what cannot be one."""
    address = unicodedata.normalize("NFKC", text).strip().lower()
    if len(address) > EMAIL_CHARS_MAX or not _EMAIL.fullmatch(address):
        raise ValueError("not an e-mail address")
    return address


def password_text(text: str, email: str, settings: AccountsSettings) -> str | None:
    """The password as it is hashed, the same for every way to type it; None for one that may not be chosen."""
    password = unicodedata.normalize("NFKC", text)
    if not settings.password_chars_min <= len(password) <= settings.password_chars_max:
        return None
    return None if password.lower() in {email, email.partition("@")[0]} else password


def require_admin(account: Account) -> Refusal | None:
    """403 for everybody but the admins of a tenant."""
    return None if AccountRole.ADMIN in account.roles else _forbidden("Only an admin may do this.", "admin_required")


def require_unconfined(account: Account) -> Refusal | None:
    """403 for a key that may do less than its user: it could make itself a successor that may do all."""
    if account.models is None and account.limits is None and account.expires_at_ms is None:
        return None
    return _forbidden("A key with limits of its own cannot make keys: log in instead.", "key_confined")


def require_session(account: Account) -> Refusal | None:
    """400 for an API key where only a session makes sense."""
    if account.key_id.startswith(SESSION_PREFIX):
        return None
    return invalid_request("Send the access token of a session, or its refresh token.", code="session_required")


def invalid_refresh_token() -> Refusal:
    """401, the same for a refresh token that is unknown, expired, used before, or of a session that was ended."""
    return _unauthenticated("The refresh token cannot be used any more. Log in again.", "invalid_refresh_token")


def invalid_login() -> Refusal:
    """401, the same for an unknown address and for a wrong password."""
    return _unauthenticated("The e-mail address or the password is wrong.", "invalid_login")


def account_suspended() -> Refusal:
    """403, only said to who knows the password."""
    return _forbidden("This account is suspended. Contact your administrator.", "account_suspended")


def registration_closed() -> Refusal:
    """403: here an operator makes accounts."""
    return _forbidden("Registration is closed. Ask an administrator for an account.", "registration_closed")


def email_taken() -> Refusal:
    """409: the address has a login."""
    return Refusal(
        status=409,
        error=ErrorBody(
            message="This e-mail address has an account. Log in instead.",
            type=ErrorType.CONFLICT,
            param="email",
            code="email_taken",
        ),
    )


def too_many_attempts(retry_after_s: int) -> Refusal:
    """429: of one address, or for one account."""
    return Refusal(
        status=429,
        error=ErrorBody(
            message="Too many attempts. Retry after the given time.",
            type=ErrorType.RATE_LIMIT,
            code="too_many_attempts",
        ),
        retry_after_s=retry_after_s,
    )


def too_many_keys(keys_max: int) -> Refusal:
    """400: revoke one first."""
    return invalid_request(f"An account has at most {keys_max} keys. Revoke one first.", code="too_many_keys")


def key_not_found() -> Refusal:
    """404, the same for an unknown key and for somebody else's."""
    return invalid_request("No such API key.", "id", "key_not_found", status=404)


def user_not_found() -> Refusal:
    """404, the same for an unknown user and for one of another tenant."""
    return invalid_request("No such user.", "id", "user_not_found", status=404)


def _unauthenticated(message: str, code: str) -> Refusal:
    return Refusal(status=401, error=ErrorBody(message=message, type=ErrorType.AUTHENTICATION, code=code))


def _forbidden(message: str, code: str) -> Refusal:
    return Refusal(status=403, error=ErrorBody(message=message, type=ErrorType.PERMISSION, code=code))
