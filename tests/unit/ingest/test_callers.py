"""Credentials of requests, remembered by the edge."""

import pytest
from starlette.datastructures import Headers

from producers.http.accounts import Accounts
from producers.http.api_keys import key_hash
from producers.http.callers import Callers
from producers.http.refused import RequestRefused
from producers.ingest.core import IngestSettings
from schemas.accounts import ApiKeyCredential, SessionCredential
from tests.support.memory_stores import MemoryAccountDirectory
from tests.unit.ingest.edge_world import KEY, OTHER_KEY, PEPPER

SESSION = SessionCredential(tenant_id="acme", user_id="ann", session_id="sess_1", expires_at_ms=9_000_000)


def callers(sessions: list[SessionCredential | None]) -> Callers:
    accounts = Accounts(MemoryAccountDirectory({}), IngestSettings(), lambda: 0.0, lambda: 0)
    return Callers(accounts, PEPPER, lambda _: sessions.pop())


def bearer(text: str) -> Headers:
    return Headers({"authorization": f"Bearer {text}"})


def test_a_key_that_comes_again_is_the_same_credential_and_no_other() -> None:
    known = callers([])
    for key in (KEY, OTHER_KEY, KEY, OTHER_KEY):
        assert known.credential(bearer(key.text)) == ApiKeyCredential(key_hash=key_hash(key, PEPPER))


def test_what_is_no_key_is_refused_each_time() -> None:
    known = callers([])
    for _ in range(2):
        with pytest.raises(RequestRefused):
            known.credential(bearer(KEY.text[:-1]))


def test_a_session_is_checked_each_time() -> None:
    known = callers([None, SESSION])
    assert known.credential(bearer("a.b.c")) == SESSION
    with pytest.raises(RequestRefused):
        known.credential(bearer("a.b.c"))
