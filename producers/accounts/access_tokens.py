"""Access tokens: JWTs of a few minutes (RFC 9068), signed and checked by RFC 8725: one algorithm, every claim."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from producers.accounts.core import AccountsSettings
from producers.accounts.signing_keys import ALGORITHM, SigningKeys
from producers.http.bounded import forget_oldest
from schemas.accounts import SessionCredential

TOKEN_TYPE: Final = "at+jwt"  # noqa: S105 - a media type
TOKEN_CHARS_MAX: Final = 2048
TOKENS_REMEMBERED_MAX: Final = 4096

_NAMES: Final = ("sub", "tid", "sid")
_NAME_CHARS_MAX: Final = 128


@dataclass(frozen=True, slots=True)
class SessionName:
    """Whose session it is."""

    tenant_id: str
    user_id: str
    session_id: str


class AccessTokens:
    """Makes and checks access tokens. ``now_ms`` is Unix time."""

    def __init__(self, keys: SigningKeys, settings: AccountsSettings, now_ms: Callable[[], int]) -> None:
        self._keys = keys
        self._settings = settings
        self._now_ms = now_ms
        # A client sends the same token many times, and a signature costs as much as the rest of a small request.
        self._checked: OrderedDict[str, SessionCredential] = OrderedDict()
        self._registry = JWSRegistry(algorithms=[ALGORITHM])
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: now_ms() // 1000,
            leeway=settings.clock_skew_seconds_max,
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "value": settings.audience},
            exp={"essential": True},
            nbf={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            sid={"essential": True},
            tid={"essential": True},
        )

    @property
    def public_keys(self) -> dict[str, Any]:
        """The JWKS with which others check these tokens."""
        return self._keys.public()

    def make(self, session: SessionName, token_id: str) -> str:
        """A token for ``session`` that lives ``access_seconds``."""
        now_s = self._now_ms() // 1000
        header = {"alg": ALGORITHM, "typ": TOKEN_TYPE, "kid": self._keys.signing.kid}
        claims = {
            "iss": self._settings.issuer,
            "aud": self._settings.audience,
            "sub": session.user_id,
            "tid": session.tenant_id,
            "sid": session.session_id,
            "jti": token_id,
            "iat": now_s,
            "nbf": now_s,
            "exp": now_s + self._settings.access_seconds,
        }
        return jwt.encode(header, claims, self._keys.signing, registry=self._registry)

    def check(self, text: str) -> SessionCredential | None:
        """The session that ``text`` proves, or None: not ours, altered, expired, not yet valid, or of another kind."""
        now_ms, skew_ms = self._now_ms(), self._settings.clock_skew_seconds_max * 1000
        known = self._checked.get(text)
        if known is not None and now_ms // 1000 * 1000 < known.expires_at_ms + skew_ms:
            return known
        session = self._check(text)
        if session is not None:
            self._checked[text] = session
            forget_oldest(self._checked, TOKENS_REMEMBERED_MAX)
        return session

    def _check(self, text: str) -> SessionCredential | None:
        if len(text) > TOKEN_CHARS_MAX or not text.isascii():
            return None
        try:
            token = jwt.decode(text, self._keys.all, registry=self._registry)
            # Which key it is decides the key id alone: a token without one would be tried on any.
            if token.header.get("typ") != TOKEN_TYPE or "kid" not in token.header:
                return None
            self._claims.validate(token.claims)
        except (JoseError, ValueError, TypeError, RecursionError):
            return None
        names = [token.claims[name] for name in _NAMES]
        if not all(isinstance(name, str) and 0 < len(name) <= _NAME_CHARS_MAX for name in names):
            return None
        user_id, tenant_id, session_id = names
        return SessionCredential(
            tenant_id=tenant_id,
            user_id=user_id,
            session_id=session_id,
            expires_at_ms=int(token.claims["exp"]) * 1000,
        )
