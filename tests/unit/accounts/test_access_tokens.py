"""Access tokens by RFC 8725: what is not exactly ours is nobody's."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from producers.accounts import access_tokens
from producers.accounts.access_tokens import AccessTokens, SessionName
from producers.accounts.core import AccountsSettings
from producers.accounts.signing_keys import (
    ALGORITHM,
    SigningKeys,
    derive_signing_keys,
    make_signing_key,
    parse_signing_keys,
)
from schemas.accounts import SessionCredential
from schemas.errors import Fatal

SETTINGS = AccountsSettings()
NAME = SessionName("acme", "ann", "sess_1")
NOW_MS = 1_795_000_000_000
KEYS = derive_signing_keys(b"pepper")


def tokens(keys: SigningKeys = KEYS, now_ms: int = NOW_MS) -> AccessTokens:
    return AccessTokens(keys, SETTINGS, lambda: now_ms)


def made(keys: SigningKeys = KEYS) -> str:
    return tokens(keys).make(NAME, "id")


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def forged(
    change_header: Callable[[dict[str, object]], object] = lambda _: None,
    change_claims: Callable[[dict[str, object]], object] = lambda _: None,
) -> str:
    """A token like ours but for one thing, with our signature: by hand, as no library writes such a thing."""
    header, claims = (json.loads(base64.urlsafe_b64decode(one + "==")) for one in made().split(".")[:2])
    change_header(header)
    change_claims(claims)
    signed = f"{part(header)}.{part(claims)}"
    private = KEYS.signing.private_key
    assert private is not None
    numbers = decode_dss_signature(private.sign(signed.encode(), ECDSA(SHA256())))
    signature = b"".join(number.to_bytes(32) for number in numbers)
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def test_a_forged_token_with_nothing_changed_passes() -> None:
    assert tokens().check(forged()) is not None


def test_a_token_proves_its_session_until_it_expires() -> None:
    text = made()
    expires_at_ms = NOW_MS + SETTINGS.access_seconds * 1000
    assert tokens().check(text) == SessionCredential(
        tenant_id="acme", user_id="ann", session_id="sess_1", expires_at_ms=expires_at_ms
    )
    skew_ms = SETTINGS.clock_skew_seconds_max * 1000
    assert tokens(now_ms=expires_at_ms + skew_ms - 1000).check(text) is not None
    assert tokens(now_ms=expires_at_ms + skew_ms).check(text) is None
    assert tokens(now_ms=NOW_MS - skew_ms - 1000).check(text) is None


def test_a_token_that_was_checked_before_expires_all_the_same() -> None:
    moment_ms = [NOW_MS]
    checking = AccessTokens(KEYS, SETTINGS, lambda: moment_ms[0])
    text = made()
    assert checking.check(text) == checking.check(text) is not None
    moment_ms[0] += (SETTINGS.access_seconds + SETTINGS.clock_skew_seconds_max) * 1000
    assert checking.check(text) is None


def test_the_memory_of_tokens_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_tokens, "TOKENS_REMEMBERED_MAX", 2)
    checking = tokens()
    for number in range(4):
        assert checking.check(checking.make(NAME, str(number))) is not None
    assert len(checking._checked) == 2


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "sid", "tid", "exp", "nbf", "iat"])
def test_every_claim_must_be_there(claim: str) -> None:
    assert tokens().check(forged(change_claims=lambda claims: claims.pop(claim))) is None


@pytest.mark.parametrize(
    ("claim", "value"),
    [("iss", "somebody"), ("aud", "another-api"), ("sub", 7), ("sid", ""), ("tid", "x" * 129), ("exp", "never")],
)
def test_a_claim_of_another_value_is_refused(claim: str, value: object) -> None:
    assert tokens().check(forged(change_claims=lambda claims: claims.update({claim: value}))) is None


@pytest.mark.parametrize(
    ("name", "value"), [("typ", "JWT"), ("typ", None), ("kid", "unknown"), ("crit", ["exp"]), ("b64", False)]
)
def test_a_header_of_another_value_is_refused(name: str, value: object) -> None:
    def change(header: dict[str, object]) -> None:
        header[name] = value

    assert tokens().check(forged(change_header=change)) is None


def test_only_the_one_algorithm_passes() -> None:
    public = json.dumps(KEYS.public()["keys"][0]).encode()
    head, payload, signature = made().split(".")
    names = {"typ": "at+jwt", "kid": KEYS.signing.kid}
    signed = f"{part({**names, 'alg': 'HS256'})}.{payload}"
    by_hmac = base64.urlsafe_b64encode(hmac.new(public, signed.encode(), hashlib.sha256).digest()).decode().rstrip("=")
    assert tokens().check(f"{signed}.{by_hmac}") is None
    unsigned = part({**names, "alg": "none"})
    assert tokens().check(f"{unsigned}.{payload}.") is None
    assert tokens().check(f"{unsigned}.{payload}.{signature}") is None
    assert tokens().check(f"{head}.{payload}.") is None


def test_a_token_of_another_key_or_an_altered_one_is_refused() -> None:
    text = made()
    head, payload, signature = text.split(".")
    assert tokens(SigningKeys([make_signing_key()])).check(text) is None
    assert tokens().check(f"{head}.{payload}.{signature[:-4]}AAAA") is None
    for junk in ("", "a.b.c", "..", "é.b.c", "a" * 3000 + ".b.c", text + "."):
        assert tokens().check(junk) is None


def test_an_old_key_verifies_and_the_first_one_signs() -> None:
    old, new = make_signing_key(), make_signing_key()
    text = made(SigningKeys([old]))
    rotated = SigningKeys([new, old])
    assert tokens(rotated).check(text) is not None
    assert tokens(SigningKeys([old])).check(made(rotated)) is None
    assert tokens(SigningKeys([new])).check(text) is None


def test_a_set_of_keys_survives_its_file_and_shows_no_secret() -> None:
    keys = SigningKeys([make_signing_key(), make_signing_key()])
    again = parse_signing_keys(keys.private())
    assert again.public() == keys.public()
    assert again.signing.kid == keys.signing.kid
    assert all("d" not in key and key["alg"] == ALGORITHM for key in keys.public()["keys"])
    assert repr(keys) == "SigningKeys(2)"


def test_the_derived_key_is_the_same_for_the_same_pepper() -> None:
    assert derive_signing_keys(b"pepper").public() == KEYS.public()
    assert derive_signing_keys(b"other pepper").public() != KEYS.public()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'])
def test_a_file_that_holds_no_keys_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(Fatal, match="P-256") as caught:
        parse_signing_keys(text)
    assert "c2VjcmV0" not in str(caught.value)


def test_public_keys_alone_cannot_sign() -> None:
    with pytest.raises(Fatal):
        parse_signing_keys(json.dumps(KEYS.public()))
