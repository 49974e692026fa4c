"""What a process of ours asks of the system it runs on."""

import resource

import pytest

from turnstream.wiring.process import OPEN_FILES_MAX, allow_open_files


@pytest.mark.parametrize(
    ("hard", "wanted"),
    [(4_096, 4_096), (1_048_576, OPEN_FILES_MAX), (resource.RLIM_INFINITY, OPEN_FILES_MAX)],
)
def test_it_takes_as_many_open_files_as_it_may_have_within_a_bound(
    hard: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (1_024, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda what, limits: taken.append((what, limits)))
    allow_open_files()
    assert taken == [(resource.RLIMIT_NOFILE, (wanted, hard))]
