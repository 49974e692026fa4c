"""The keys that sign access tokens: several may verify, the first one signs (RFC 8725: one fixed algorithm, ES256)."""

import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeyParameters, KeySet

from schemas.errors import Fatal

ALGORITHM: Final = "ES256"
SIGNING_KEYS_MAX: Final = 8

_CURVE: Final = "P-256"
# The order of the curve's group (FIPS 186-5).
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_PARAMETERS: Final[KeyParameters] = {"use": "sig", "alg": ALGORITHM}


class SigningKeys:
    """A set of keys on P-256, each named by its thumbprint (RFC 7638). Its repr shows nothing of them."""

    def __init__(self, keys: Sequence[ECKey]) -> None:
        if not 0 < len(keys) <= SIGNING_KEYS_MAX:
            raise ValueError(f"between 1 and {SIGNING_KEYS_MAX} signing keys")
        self.signing: Final = keys[0]
        self.all: Final = KeySet(list(keys))

    def __repr__(self) -> str:
        return f"SigningKeys({len(self.all.keys)})"

    def public(self) -> dict[str, Any]:
        """The set as a JWKS (RFC 7517), without anything secret."""
        return {"keys": [key.as_dict(private=False) for key in self.all.keys]}

    def private(self) -> str:
        """The set as the text of a file for ``parse_signing_keys``. Secret."""
        return json.dumps({"keys": [key.as_dict(private=True) for key in self.all.keys]}, indent=1)


def make_signing_key() -> ECKey:
    """A new key."""
    return ECKey.generate_key(_CURVE, _PARAMETERS, private=True, auto_kid=True)


def derive_signing_keys(pepper: bytes) -> SigningKeys:
    """One key that every process with the same pepper has, for a deployment without a file of keys.

    By 512 bits that are pseudorandom under the pepper, reduced modulo the order (FIPS 186-5, A.2.1).
    """
    bits = hmac.new(pepper, b"turnstream access token signing key v1", hashlib.sha512).digest()
    secret = derive_private_key(int.from_bytes(bits) % (_ORDER - 1) + 1, SECP256R1())
    key = ECKey.import_key(secret, _PARAMETERS)
    key.ensure_kid()
    return SigningKeys([key])


def parse_signing_keys(text: str) -> SigningKeys:
    """The keys of a private JWKS, the signing one first. Raises Fatal, which repeats nothing of ``text``."""
    try:
        keys = [ECKey.import_key(key, _PARAMETERS) for key in json.loads(text)["keys"]]
        usable = all(key.is_private and key.curve_name == _CURVE for key in keys)
        for key in keys:
            key.ensure_kid()
        if usable:
            return SigningKeys(keys)
    except (ValueError, KeyError, TypeError, AttributeError, JoseError):
        pass
    raise Fatal("the signing keys must be a JSON object {keys: [...]} of private P-256 keys (JWK)")
