"""Commands are the same bytes, whoever packs them, and every kind of connection packs them so."""

import pytest
from pydantic import SecretStr
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import DataError

from turnstream.settings import RedisSettings
from turnstream.wiring.redis_client import PackedByHiredis, open_redis

COMMANDS = [
    ("GET", "key"),
    ("SCRIPT LOAD", "return 1"),
    ("EVALSHA", "f" * 40, 1, "grüß", 0, -1, 1.5, b"\x00\xff", "", "x" * 20_000),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
def test_the_bytes_are_those_of_redis_py(command: tuple[str, *tuple[str | int | float | bytes, ...]]) -> None:
    theirs = Connection().pack_command(*command)
    assert b"".join(PackedByHiredis().pack_command(*command)) == b"".join(theirs)


def test_what_is_no_argument_is_an_error_of_redis_py() -> None:
    with pytest.raises(DataError):
        PackedByHiredis().pack_command("GET", None)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://h:1/0", Connection),
        ("rediss://h:1/0", SSLConnection),
        ("unix:///run/redis.sock", UnixDomainSocketConnection),
    ],
)
async def test_every_kind_of_connection_packs_so(url: str, kind: type) -> None:
    async with open_redis(RedisSettings(url=SecretStr(url))) as redis:
        connection = redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    assert isinstance(connection, kind)
    assert isinstance(connection, PackedByHiredis)
