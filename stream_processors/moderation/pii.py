"""Recognise personal data by its form and its check digits. Pure.

Every expression is anchored and bounded, so a text of n characters costs O(n). Only the kind is reported.
"""

import ipaddress
import re
import string
from collections.abc import Callable, Sequence
from typing import Final

from stream_processors.moderation.ruleset import PiiKind

IBAN_MODULUS: Final = 97
# Lengths by country, from SWIFT's IBAN registry.
_IBAN_LENGTHS: Final = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU XK",
        21: "CH CR HR LI LV",
        22: "BG BH DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}

_EMAIL: Final = re.compile(r"(?<=[A-Za-z0-9._%+-])@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9-])")
# What comes before a number is looked at from its first character (an IBAN's from its first digit): for that one, `re`
# runs over the text three times as fast as for a place that nothing precedes.
_PHONE: Final = re.compile(
    r"[+(2-9](?:"
    # E.164: a plus and 7 to 15 digits, in any grouping.
    r"(?<=\+)(?<![0-9A-Za-z+]\+)[1-9](?:[ ().-]{0,2}[0-9]){6,14}(?![0-9])"
    # North America: 3-3-4.
    r"|(?:(?<=\()(?<![0-9A-Za-z.+-]\()[2-9]|(?<=[2-9])(?<![0-9A-Za-z.+-][2-9]))[0-9]{2}\)?[ .-]{1,2}"
    r"[2-9][0-9]{2}[ .-][0-9]{4}(?![0-9-]))"
)
_IBAN_COUNTRY_CHARS: Final = 2
_IBAN: Final = re.compile(
    r"[0-9](?<=[A-Za-z]{2}[0-9])(?<![A-Za-z0-9][A-Za-z]{2}[0-9])(?=([0-9](?: ?[A-Za-z0-9]){11,29}))"
)
_CARD: Final = re.compile(
    r"[0-9](?<![0-9]{2})(?=([0-9]{12,18}|[0-9]{3}(?:[ -][0-9]{4}){3}|[0-9]{3}[ -][0-9]{6}[ -][0-9]{5})(?![0-9]))"
)
_IPV4_DOTS: Final = 3
_IPV6_COLONS_MIN: Final = 2
_IPV4: Final = re.compile(
    r"(?<![0-9A-Za-z.])(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})\.){3}"
    r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})(?![0-9A-Za-z]|\.[0-9])"
)
_IPV6: Final = re.compile(r"(?<![0-9A-Za-z:.])([0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![0-9A-Za-z:])")


def find_pii(text: str) -> frozenset[PiiKind]:
    """The kinds of personal data in ``text`` (compatibility forms already replaced)."""
    digits = sum(map(text.count, string.digits))
    return frozenset([kind for kind, digits_min, occurs in _RECOGNISERS if digits >= digits_min and occurs(text)])


def luhn_holds(digits: str) -> bool:
    """Whether the last of ``digits`` is the check digit of the others (ISO/IEC 7812-1)."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(doubled) + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0


def iban_holds(candidate: str) -> bool:
    """Whether ``candidate`` begins with a valid IBAN: known country, its length, check digits (ISO 13616)."""
    compact = candidate.replace(" ", "").upper()
    length = _IBAN_LENGTHS.get(compact[:2], 0)
    if not 0 < length <= len(compact):
        return False
    rearranged = compact[4:length] + compact[:4]
    return int("".join(str(int(character, 36)) for character in rearranged)) % IBAN_MODULUS == 1


def _has_email(text: str) -> bool:
    return "@" in text and _EMAIL.search(text) is not None


def _has_phone(text: str) -> bool:
    return _PHONE.search(text) is not None


def _has_iban(text: str) -> bool:
    candidates = (text[match.start() - _IBAN_COUNTRY_CHARS : match.end(1)] for match in _IBAN.finditer(text))
    return any(map(iban_holds, candidates))


def _has_card(text: str) -> bool:
    candidates = ((match[0] + match[1]).replace(" ", "").replace("-", "") for match in _CARD.finditer(text))
    # A run of one digit passes Luhn's test for some lengths, and is a rule or a placeholder.
    return any(len(set(digits)) > 1 and luhn_holds(digits) for digits in candidates)


def _has_ip(text: str) -> bool:
    if text.count(".") >= _IPV4_DOTS and _IPV4.search(text) is not None:
        return True
    return text.count(":") >= _IPV6_COLONS_MIN and any(_is_ipv6(match[1]) for match in _IPV6.finditer(text))


def _is_ipv6(candidate: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(candidate))
    except ValueError:
        return False


# With fewer digits, nothing of the kind can be there: most texts are done after counting.
_RECOGNISERS: Final[Sequence[tuple[PiiKind, int, Callable[[str], bool]]]] = (
    (PiiKind.EMAIL, 0, _has_email),
    (PiiKind.IP, 1, _has_ip),
    (PiiKind.IBAN, 7, _has_iban),
    (PiiKind.PHONE, 7, _has_phone),
    (PiiKind.CARD, 13, _has_card),
)
