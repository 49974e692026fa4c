"""What commands tell the audit topic, and what they do when it does not answer."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest
import typer

from producers.audit.reading import read_actions
from producers.http.api_keys import KEY_ENTROPY_BYTES, key_hash, make_api_key
from schemas.accounts import Account, AccountRole, ApiKeyCredential, Credential
from tests.support.memory_log import MemoryLog
from turnstream.audit.actor import Actor, NotAllowedError, key_actor, login_actor
from turnstream.commands.audited import audited
from turnstream.commands.exits import Exit
from turnstream.settings import Settings

SETTINGS = Settings()
PEPPER = b"pepper"
KEY = make_api_key(bytes(range(KEY_ENTROPY_BYTES)))


def told(log: MemoryLog) -> list[tuple[str, str, str, str | None]]:
    actions = asyncio.run(read_actions(log.reader()))
    assert len({action.action_id for action in actions}) == (len(actions) + 1) // 2
    assert all(action.actor.startswith("os:") for action in actions)
    return [(action.action, action.subject, action.outcome, action.reason) for action in actions]


def test_an_action_is_told_before_it_is_done_and_after(audit_log: MemoryLog) -> None:
    with audited(SETTINGS, "keys.revoke", "k1", reason="lost"):
        assert told(audit_log) == [("keys.revoke", "k1", "begun", "lost")]
    assert told(audit_log)[1:] == [("keys.revoke", "k1", "done", "lost")]


def test_an_action_that_ended_otherwise_is_told_as_failed(audit_log: MemoryLog) -> None:
    with pytest.raises(typer.Exit), audited(SETTINGS, "keys.revoke", "k1"):
        raise typer.Exit(Exit.NOT_FOUND)
    assert [each[2] for each in told(audit_log)] == ["begun", "failed"]


def test_without_the_log_nothing_is_done(audit_log: MemoryLog, capsys: pytest.CaptureFixture[str]) -> None:
    audit_log.fail_next_append(landing=False)
    with pytest.raises(typer.Exit) as ended, audited(SETTINGS, "keys.create", "k1"):
        pytest.fail("it was done")
    assert ended.value.exit_code == Exit.NOT_RUNNING
    assert "nothing was done" in capsys.readouterr().err


def test_what_is_urgent_is_done_without_the_log(audit_log: MemoryLog, capsys: pytest.CaptureFixture[str]) -> None:
    audit_log.fail_next_append(landing=False)
    done = False
    with audited(SETTINGS, "keys.revoke", "k1", urgent=True):
        done = True
    assert done
    assert "without an audit" in capsys.readouterr().err


def test_a_lost_outcome_is_said(audit_log: MemoryLog, capsys: pytest.CaptureFixture[str]) -> None:
    with audited(SETTINGS, "keys.create", "k1"):
        audit_log.fail_next_append(landing=False)
    assert "only the beginning" in capsys.readouterr().err


# --- who operates ----------------------------------------------------------------------------------------


class OneAccount:
    """The directory of one key."""

    def __init__(self, *roles: AccountRole, expires_at_ms: int | None = None) -> None:
        self._account = Account(
            tenant_id="acme", user_id="ann", key_id="k", plan="pro", roles=roles, expires_at_ms=expires_at_ms
        )

    async def accounts(self, credentials: Sequence[Credential]) -> Mapping[str, Account]:
        known = ApiKeyCredential(key_hash=key_hash(KEY, PEPPER))
        return {one.name: self._account for one in credentials if one == known}


async def test_an_operator_is_named_by_the_user_of_the_key() -> None:
    actor = await key_actor(f" {KEY.text}\n", PEPPER, OneAccount(AccountRole.OPERATOR), 5)
    assert actor == Actor("acme/ann", frozenset({AccountRole.OPERATOR}))


@pytest.mark.parametrize(
    ("key", "accounts", "words"),
    [
        ("ts-nonsense", OneAccount(AccountRole.ADMIN), "not an API key"),
        (make_api_key(bytes(KEY_ENTROPY_BYTES)).text, OneAccount(AccountRole.ADMIN), "unknown"),
        (KEY.text, OneAccount(AccountRole.ADMIN, expires_at_ms=5), "expired"),
        (KEY.text, OneAccount(AccountRole.USER, AccountRole.ANALYST), "neither operator nor admin"),
        (KEY.text, OneAccount(), "neither operator nor admin"),
    ],
)
async def test_other_keys_operate_nothing(key: str, accounts: OneAccount, words: str) -> None:
    with pytest.raises(NotAllowedError, match=words) as refused:
        await key_actor(key, PEPPER, accounts, 5)
    assert KEY.text not in str(refused.value)


@pytest.mark.parametrize(
    ("roles", "operators_too", "may"),
    [
        ((), True, False),
        ((AccountRole.ADMIN,), False, True),
        ((AccountRole.OPERATOR,), False, False),
        ((AccountRole.OPERATOR,), True, True),
    ],
)
def test_who_may_see_content(roles: tuple[AccountRole, ...], *, operators_too: bool, may: bool) -> None:
    assert Actor("acme/ann", frozenset(roles)).may_reveal(operators_too=operators_too) is may


def test_a_login_without_a_name_is_unknown() -> None:
    def nameless() -> str:
        raise KeyError(1234)

    assert login_actor(nameless).name == "os:unknown"
    assert login_actor(lambda: "ann").name == "os:ann"
