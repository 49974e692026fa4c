"""Who sends a request."""

from collections.abc import Callable, Sequence
from typing import Final

from starlette.datastructures import Headers

from producers.http.accounts import Accounts
from producers.http.api_keys import bearer_token, key_hash, parse_api_key
from producers.http.bounded import Findings
from producers.http.refused import RequestRefused
from schemas import errors
from schemas.accounts import Account, ApiKeyCredential, Credential, SessionCredential
from schemas.errors import Refusal

# The session that an access token proves, or None.
CheckToken = Callable[[str], SessionCredential | None]

_AUTHORIZATION: Final = "authorization"
# A JWT is three parts of base 64; no API key has a dot.
_JWT_DOTS: Final = 2
_KNOWN_MAX: Final = 4_096


class Callers:
    """Credentials of requests, and the accounts behind them."""

    def __init__(self, accounts: Accounts, pepper: bytes, check_token: CheckToken) -> None:
        """``pepper`` keys the hashes of API keys."""
        self._accounts = accounts
        self._pepper = pepper
        self._check_token = check_token
        # By their headers.
        self._known: Findings[ApiKeyCredential] = Findings(_KNOWN_MAX)

    def credential(self, headers: Headers) -> Credential:
        """The credential of a request. Raises RequestRefused (401)."""
        authorization = headers.getlist(_AUTHORIZATION)
        if len(authorization) != 1:
            return authenticate(authorization, self._pepper, self._check_token)
        known = self._known.get(authorization[0])
        if known is not None:
            return known
        credential = authenticate(authorization, self._pepper, self._check_token)
        if isinstance(credential, ApiKeyCredential):
            # A key that was well-formed once always is; whether it passes, ``resolve`` asks each time.
            self._known.keep(authorization[0], credential)
        return credential

    def credential_or_none(self, headers: Headers) -> Credential | None:
        """The same; None for a request that comes without, or with what is none."""
        try:
            return self.credential(headers)
        except RequestRefused:
            return None

    async def resolve(self, credential: Credential) -> Account:
        """The account behind ``credential``. Raises RequestRefused (401), Retryable."""
        return await self._accounts.resolve(credential)

    async def account(self, headers: Headers) -> Account:
        """Who asks. Raises RequestRefused (401), Retryable."""
        return await self.resolve(self.credential(headers))


def authenticate(authorization: Sequence[str], pepper: bytes, check_token: CheckToken) -> Credential:
    """The credential in the ``Authorization`` headers of a request. Raises RequestRefused (401).

    Of a key well-formed is all it says, and of a session that it was once begun: whether they still pass, the
    account directory knows.
    """
    if not authorization:
        raise RequestRefused(_missing_api_key())
    # Two headers could be read as one user here and as another by a proxy.
    token = (bearer_token(authorization[0]) if len(authorization) == 1 else None) or ""
    if token.count(".") == _JWT_DOTS:
        session = check_token(token)
        if session is None:
            raise RequestRefused(errors.invalid_access_token())
        return session
    key = parse_api_key(token)
    if key is None:
        raise RequestRefused(errors.invalid_api_key())
    return ApiKeyCredential(key_hash=key_hash(key, pepper))


def _missing_api_key() -> Refusal:
    refused = errors.invalid_api_key()
    message = "You did not provide an API key. Send it in the header 'Authorization: Bearer YOUR_KEY'."
    return refused.model_copy(update={"error": refused.error.model_copy(update={"message": message})})
