"""Refresh tokens, passwords, and how often one may try."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.accounts.attempts import AttemptLimit, network_of
from producers.accounts.core import AccountsSettings, email_address, password_text
from producers.accounts.passwords import Passwords
from producers.accounts.refresh_tokens import RefreshTokens
from producers.http.refused import RequestRefused

TOKENS = RefreshTokens(b"pepper", "sess_")
SESSION = "sess_" + "a" * 24
SETTINGS = AccountsSettings(password_memory_kib=8, password_passes=1, password_lanes=1)


def test_a_refresh_token_is_recognised_by_who_made_it_alone() -> None:
    token = TOKENS.make(SESSION, bytes(20))
    parsed = TOKENS.parse(token.text)
    assert parsed is not None
    assert (parsed.session_id, parsed.kept) == (SESSION, token.kept)
    assert RefreshTokens(b"another pepper", "sess_").parse(token.text) is None
    assert token.text not in repr(token)
    assert token.text not in token.kept


@given(st.integers(0, 92), st.sampled_from("abz27-"))
def test_an_altered_refresh_token_is_nobodys(place: int, character: str) -> None:
    text = TOKENS.make(SESSION, bytes(range(20))).text
    altered = text[:place] + character + text[place + 1 :]
    assert altered == text or TOKENS.parse(altered) is None


def test_two_tokens_of_a_session_differ() -> None:
    assert TOKENS.make(SESSION, bytes(20)).kept != TOKENS.make(SESSION, bytes(range(20))).kept
    with pytest.raises(ValueError, match="20 bytes"):
        TOKENS.make(SESSION, b"short")


async def test_a_password_is_kept_as_argon2id_and_found_again() -> None:
    passwords = Passwords(SETTINGS)
    kept = await passwords.hash("correct horse battery")
    assert kept.startswith("$argon2id$")
    assert "horse" not in kept
    assert await passwords.check("correct horse battery", kept)
    assert not await passwords.check("correct horse batterY", kept)
    assert not await passwords.check("correct horse battery", "no hash")


async def test_nobodys_password_costs_a_check_too() -> None:
    passwords = Passwords(SETTINGS)
    checked: list[str] = []
    verify = passwords._hasher.verify

    class Counting:
        def verify(self, kept: str, password: str) -> bool:
            checked.append(kept)
            return verify(kept, password)

        hash = staticmethod(passwords._hasher.hash)

    passwords._hasher = Counting()  # type: ignore[assignment]  # counts the checks
    assert not await passwords.check("anything at all", None)
    assert not await passwords.check("nobody's password", None), "the stand-in is nobody's password either"
    assert len(checked) == 2


async def test_too_many_waiting_checks_are_refused() -> None:
    settings = SETTINGS.model_copy(update={"password_checks_in_flight_max": 1, "password_checks_waiting_max": 0})
    passwords, gate = Passwords(settings), threading.Event()
    first = asyncio.ensure_future(passwords._run(gate.wait))
    await asyncio.sleep(0)
    with pytest.raises(RequestRefused) as caught:
        await passwords.hash("another password")
    gate.set()
    await first
    assert caught.value.refusal.status == 503


def test_outdated_parameters_are_noticed() -> None:
    old = Passwords(SETTINGS)._hasher.hash("x")
    assert Passwords(SETTINGS.model_copy(update={"password_passes": 2})).is_outdated(old)
    assert not Passwords(SETTINGS).is_outdated(old)


def test_attempts_are_counted_by_name_and_come_back_with_time() -> None:
    limit = AttemptLimit(per_minute=3, entries_max=10)
    assert [limit.attempt("a", 0.0) for _ in range(4)] == [None, None, None, 20]
    assert limit.attempt("b", 0.0) is None
    assert limit.attempt("a", 19.0) == 1
    assert limit.attempt("a", 20.0) is None
    assert limit.attempt("a", 20.0) is not None


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 10)), max_size=200), st.integers(1, 5))
def test_attempts_are_bounded_in_number_and_memory(steps: list[tuple[int, float]], per_minute: int) -> None:
    limit, now_s = AttemptLimit(per_minute, entries_max=3), 0.0
    allowed: list[float] = []
    for name, elapsed_s in steps:
        now_s += elapsed_s
        if limit.attempt(name, now_s) is None and name == 0:
            allowed.append(now_s)
        assert len(limit) <= 3
    del allowed


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "20010db800000000/64"),
        ("2001:db8::ffff:1", "20010db800000000/64"),
        (None, "unknown"),
        ("nonsense", "unknown"),
    ],
)
def test_an_address_is_counted_by_what_its_holder_cannot_change(host: str | None, network: str) -> None:
    assert network_of(host) == network


@pytest.mark.parametrize("text", ["", "a", "a@", "@b", "a b@c", "a@b@c", "a\n@b", "x" * 250 + "@b.org"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an e-mail"):
        email_address(text)


def test_addresses_are_the_same_however_they_are_typed() -> None:
    assert email_address(" Ann@EXAMPLE.org ") == email_address("ann@example.org") == "ann@example.org"


@pytest.mark.parametrize("text", ["short", "x" * 300, "ann@example.org", "ANN@example.org"])
def test_a_password_that_may_not_be_chosen(text: str) -> None:
    assert password_text(text, "ann@example.org", SETTINGS) is None
