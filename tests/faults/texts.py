"""How one text differs from what it should be, in the terms of the checks. Pure."""

from itertools import takewhile

from tests.faults.evidence import Check


def difference(actual: str, wanted: str) -> Check | None:
    """None if they are equal; a gap or a repeat if a piece is missing or comes again; else foreign text."""
    if actual == wanted:
        return None
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(actual, wanted, strict=False)))
    if len(actual) < len(wanted) and wanted.endswith(actual[shared:]):
        return Check.TOKEN_GAP
    if len(actual) > len(wanted) and actual.endswith(wanted[shared:]):
        return Check.TOKEN_REPEAT
    return Check.FOREIGN_TEXT
