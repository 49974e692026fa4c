"""RFC 7396 on values of dead letters."""

import json
from typing import Any

import pytest

from producers.redrive.mending import UNCHANGED, Mending, merge_patch
from schemas.errors import Malformed


# The test cases of RFC 7396, appendix A.
@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_does_what_the_rfc_says(target: Any, patch: Any, expected: Any) -> None:
    assert merge_patch(target, patch) == expected


def test_a_value_is_patched_without_losing_what_the_patch_does_not_name() -> None:
    mended = Mending(patch={"turn": {"max_tokens": None}}).apply(
        b'{"turn": {"max_tokens": -1, "new": 2}, "e": "\xc3\xa4"}'
    )
    assert json.loads(mended) == {"turn": {"new": 2}, "e": "ä"}


def test_without_a_change_the_bytes_stay() -> None:
    assert UNCHANGED.apply(b" not json ") == b" not json "


def test_a_value_may_be_replaced_whatever_it_was() -> None:
    assert Mending(value=b"{}").apply(b"\xff") == b"{}"


@pytest.mark.parametrize("value", [b"", b"{", b"[" * 100_000, b'{"a": "\xff"}', b"NaN"])
def test_what_is_no_json_cannot_be_patched(value: bytes) -> None:
    with pytest.raises(Malformed, match="--value-file"):
        Mending(patch={}).apply(value)
