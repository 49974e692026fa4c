"""Keys at one address: counted within a window, bounded, and told only now and then."""

from stream_processors.windows.abuse_settings import AbuseSettings, Rungs
from stream_processors.windows.crowds import Crowd, Noted, newest_ms, see_key

SETTINGS = AbuseSettings(keys_window_minutes=1, keys_per_origin_max=5)
NOW = 1_795_000_000_000


def crowd(*seen: tuple[str, int]) -> Crowd:
    known: Crowd = {}
    for key_id, at_ms in seen:
        known = see_key(known, key_id, NOW + at_ms, SETTINGS)
    return known


def test_each_key_counts_once() -> None:
    assert set(crowd(("a", 0), ("b", 1), ("a", 2))) == {"a", "b"}


def test_keys_leave_with_the_window_and_old_news_does_not_make_them_older() -> None:
    assert set(crowd(("a", 0), ("b", 30_000), ("c", 60_000))) == {"b", "c"}
    assert set(crowd(("a", 50_000), ("a", 0), ("c", 60_000))) == {"a", "c"}
    assert newest_ms(crowd(("a", 5), ("b", 3))) == NOW + 5
    assert newest_ms({}) == 0


def test_no_address_holds_more_keys_than_the_bound() -> None:
    known = crowd(*((f"k{number}", number) for number in range(50)))
    assert set(known) == {"k45", "k46", "k47", "k48", "k49"}


def test_a_key_is_told_once_in_a_while() -> None:
    noted = Noted(again_ms=30_000, entries_max=2)
    assert noted.is_news("o", "k", NOW)
    noted.note("o", "k", NOW)
    assert not noted.is_news("o", "k", NOW + 29_999)
    assert noted.is_news("o", "k", NOW + 30_000)
    assert noted.is_news("other", "k", NOW)


def test_what_is_told_is_bounded() -> None:
    noted = Noted(again_ms=30_000, entries_max=2)
    for key_id in ("a", "b", "c"):
        noted.note("o", key_id, NOW)
    assert [noted.is_news("o", key_id, NOW) for key_id in ("a", "b", "c")] == [True, False, False]


def test_the_least_count_that_means_anything() -> None:
    assert AbuseSettings(many_keys=Rungs(warn=20, slow=50)).many_keys_min == 10
    assert AbuseSettings(many_keys=Rungs()).many_keys_min is None
