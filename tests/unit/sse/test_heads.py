import pytest

from consumers.sse.heads import duration, limit_headers, refusal_headers, stream_headers
from schemas.errors import invalid_api_key, unavailable
from schemas.events import RateLimits

LIMITS = RateLimits(
    limit_requests=60,
    remaining_requests=-1,
    reset_requests_ms=12,
    limit_tokens=1000,
    remaining_tokens=900,
    reset_tokens_ms=90_000,
)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (12, "12ms"),
        (999, "999ms"),
        (1000, "1s"),
        (1500, "1.5s"),
        (8640, "8.64s"),
        (20_000, "20s"),
        (60_000, "1m0s"),
        (360_000, "6m0s"),
        (90_120, "1m30.12s"),
        (3_600_000, "1h0m0s"),
        (7_384_000, "2h3m4s"),
    ],
)
def test_durations_are_written_as_openai_does(milliseconds: int, text: str) -> None:
    assert duration(milliseconds) == text


def test_limits_never_show_less_than_nothing() -> None:
    assert dict(limit_headers(LIMITS)) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"0",
        b"x-ratelimit-reset-requests": b"12ms",
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"900",
        b"x-ratelimit-reset-tokens": b"1m30s",
    }
    assert limit_headers(None) == []


def test_a_stream_is_passed_on_at_once() -> None:
    headers = dict(stream_headers(LIMITS, "conv_9"))
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert headers[b"cache-control"] == b"no-cache"
    assert headers[b"x-accel-buffering"] == b"no"
    assert headers[b"x-conversation-id"] == b"conv_9"
    assert b"x-conversation-id" not in dict(stream_headers(LIMITS, None))


def test_retry_after_is_sent_where_waiting_helps() -> None:
    assert dict(refusal_headers(b"{}", None, unavailable("Busy.", retry_after_s=7)))[b"retry-after"] == b"7"
    assert b"retry-after" not in dict(refusal_headers(b"{}", None, invalid_api_key()))
