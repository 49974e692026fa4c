"""Bodies, places and caches of the edge stay within their limits."""

import asyncio
from collections.abc import Sequence

import pytest
from starlette.datastructures import Headers
from starlette.types import Message

from producers.http.accounts import Accounts
from producers.http.api_keys import key_hash
from producers.http.body import read_body
from producers.http.refused import RequestRefused
from producers.ingest.admission import Admission
from producers.ingest.core import IngestSettings
from schemas.accounts import ApiKeyCredential
from tests.support.memory_accounts import MemoryAccountRows
from tests.unit.ingest.edge_world import ACCOUNT, KEY, PEPPER, CountedKeys, FakeMetrics


class Wire:
    """Plays a request body; after its last piece the line is silent."""

    def __init__(self, *pieces: bytes, ends: bool = True) -> None:
        self.read = 0
        self._messages: Sequence[Message] = [
            {"type": "http.request", "body": piece, "more_body": not ends or index < len(pieces) - 1}
            for index, piece in enumerate(pieces)
        ]

    async def receive(self) -> Message:
        if self.read == len(self._messages):
            await asyncio.Event().wait()
        self.read += 1
        return self._messages[self.read - 1]


async def status_of(wire: Wire, headers: dict[str, str] | None = None, seconds_max: float = 5) -> int:
    with pytest.raises(RequestRefused) as caught:
        await read_body(Headers(headers or {}), wire.receive, 10, seconds_max)
    return caught.value.refusal.status


async def test_a_body_in_pieces_is_whole() -> None:
    assert await read_body(Headers({}), Wire(b"01234", b"", b"56789").receive, 10, 5) == b"0123456789"


async def test_a_body_too_large_is_413_after_it_was_read_away() -> None:
    wire = Wire(*[b"01234"] * 4)
    assert await status_of(wire) == 413
    assert wire.read == 4


async def test_a_body_without_end_is_413_too() -> None:
    wire = Wire(*[b"0123456789"] * 100)
    assert await status_of(wire) == 413
    assert wire.read < 12


async def test_a_declared_giant_is_413_unread() -> None:
    wire = Wire(b"")
    assert await status_of(wire, {"content-length": "81"}) == 413
    assert wire.read == 0


async def test_a_dribbled_body_is_408() -> None:
    assert await status_of(Wire(b"0", ends=False), seconds_max=0.01) == 408


async def test_a_body_cut_short_is_400() -> None:
    async def gone() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(RequestRefused) as caught:
        await read_body(Headers({}), gone, 10, 5)
    assert caught.value.refusal.status == 400


def test_admission_counts_and_refuses() -> None:
    metrics = FakeMetrics()
    admission = Admission(IngestSettings(streams_open_max=1), metrics, Clock())
    with admission.slot(queued=True):
        assert metrics.gauges["turnstream_streams_open"] == 1
        with pytest.raises(RequestRefused) as caught, admission.slot(queued=True):
            pass
    assert caught.value.refusal.status == 503
    assert caught.value.refusal.retry_after_s is not None
    assert admission.open_turns == 0
    admission.close()
    with pytest.raises(RequestRefused), admission.slot(queued=True):
        pass


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def test_accounts_are_remembered_for_a_moment() -> None:
    keys, clock = CountedKeys(MemoryAccountRows()), Clock()
    accounts = Accounts(keys, IngestSettings(key_cache_seconds=30), clock, lambda: 0)
    credential = ApiKeyCredential(key_hash=key_hash(KEY, PEPPER))
    assert await accounts.resolve(credential) == ACCOUNT
    assert await accounts.resolve(credential) == ACCOUNT
    assert keys.calls == 1
    keys.keys.clear()
    clock.now_s = 30
    with pytest.raises(RequestRefused) as caught:
        await accounts.resolve(credential)
    assert caught.value.refusal.status == 401


async def test_a_flood_of_unknown_keys_is_remembered_within_bounds() -> None:
    keys = CountedKeys(MemoryAccountRows())
    accounts = Accounts(keys, IngestSettings(key_cache_entries_max=2), Clock(), lambda: 0)
    for digit in "0011220":
        with pytest.raises(RequestRefused):
            await accounts.resolve(ApiKeyCredential(key_hash=digit * 64))
    assert keys.calls == 4
