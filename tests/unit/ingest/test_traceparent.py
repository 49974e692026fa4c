import pytest

from producers.ingest.traceparent import TRACE_ENTROPY_BYTES, accept_traceparent

ENTROPY = bytes(range(1, TRACE_ENTROPY_BYTES + 1))
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
NEW = f"00-{ENTROPY[:16].hex()}-{ENTROPY[16:].hex()}-01"


def test_a_valid_one_is_kept() -> None:
    assert accept_traceparent(f"00-{TRACE}-{PARENT}-00", ENTROPY) == f"00-{TRACE}-{PARENT}-00"


def test_a_later_version_is_read_as_00() -> None:
    assert accept_traceparent(f"01-{TRACE}-{PARENT}-01-more", ENTROPY) == f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "nonsense",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
    ],
)
def test_anything_else_is_replaced(text: str | None) -> None:
    assert accept_traceparent(text, ENTROPY) == NEW


def test_entropy_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="24 bytes"):
        accept_traceparent(None, b"short")
