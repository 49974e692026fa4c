import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_processors.moderation.normalise import plain
from stream_processors.moderation.pii import find_pii, iban_holds, luhn_holds
from stream_processors.moderation.ruleset import PiiKind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to ann.o'neil+news@mail.example.co.uk today", PiiKind.EMAIL),
        ("<bob@example.org>", PiiKind.EMAIL),
        ("call +49 30 901820 now", PiiKind.PHONE),
        ("+1 (212) 555-0123", PiiKind.PHONE),
        ("(212) 555-0123", PiiKind.PHONE),
        ("call(212) 555-0123", PiiKind.PHONE),
        ("212-555-0123", PiiKind.PHONE),
        ("IBAN DE89 3704 0044 0532 0130 00 please", PiiKind.IBAN),
        ("gb82west12345698765432", PiiKind.IBAN),
        ("order XX12 3456 DE89 3704 0044 0532 0130 00", PiiKind.IBAN),
        ("NO93 8601 1117 947", PiiKind.IBAN),
        ("4111 1111 1111 1111", PiiKind.CARD),
        ("4111-1111-1111-1111", PiiKind.CARD),
        ("card 5555555555554444 cvv 123", PiiKind.CARD),
        ("1234 4111 1111 1111 1111 99", PiiKind.CARD),
        ("3782 822463 10005", PiiKind.CARD),
        ("4111111111111111", PiiKind.CARD),
        ("host 192.168.0.254.", PiiKind.IP),
        ("2001:db8::ff00:42:8329", PiiKind.IP),
        ("\uff14111 1111 1111 11\u200b11", PiiKind.CARD),
    ],
)
def test_personal_data_is_recognised_by_kind(text: str, kind: PiiKind) -> None:
    assert kind in find_pii(plain(text))


@pytest.mark.parametrize(
    "text",
    [
        "What is 17 * 23?",
        "@everyone look at user@ and @home",
        "in 2024, 1,250,000 people",
        "DE00 3704 0044 0532 0130 00",
        "4111 1111 1111 1112",
        "0000 0000 0000 0000",
        "version 1.2.3 and 1.2.3.4.5 and 300.1.1.1",
        "at 12:30:45 or 1:2",
        "a::b::c",
        "ISBN 978-3-16-148410-0",
        "a+49 30 901820",
        "order 1212-555-0123",
        "4111 1111 1111 11111",
        "94111111111111111",
        "x" * 1_000,
    ],
)
def test_what_only_looks_like_it_is_not(text: str) -> None:
    assert find_pii(text) == frozenset()


@given(st.from_regex(r"\A[0-9]{12,18}\Z"))
def test_exactly_one_check_digit_satisfies_luhn(digits: str) -> None:
    assert sum(luhn_holds(digits + last) for last in "0123456789") == 1


@given(st.from_regex(r"\A[0-9]{18}\Z"), st.integers(0, 17), st.integers(1, 9))
def test_a_mistyped_iban_does_not_hold(account: str, place: int, change: int) -> None:
    check = 98 - int(account + "131400") % 97
    good = f"DE{check:02d}{account}"
    wrong = str((int(account[place]) + change) % 10)
    assert iban_holds(good)
    assert not iban_holds(f"DE{check:02d}{account[:place]}{wrong}{account[place + 1 :]}")
