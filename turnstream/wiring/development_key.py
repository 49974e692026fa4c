"""The key with which a developer talks to the local stack: made once, kept in one file, for its owner alone."""

import os
import secrets
from pathlib import Path

from producers.accounts.ports import ApiKeyRow
from producers.http.api_keys import KEY_ENTROPY_BYTES, ApiKey, key_hash, make_api_key, parse_api_key
from schemas.errors import Fatal
from schemas.ports import Cql
from turnstream.stores.api_keys import create_key_row


def read_or_make_key(file: Path) -> ApiKey:
    """The key in ``file``, made if it is not there. Raises Fatal when the file holds something else."""
    key = parse_api_key(file.read_text().strip() if file.exists() else _make(file))
    if key is None:
        raise Fatal(f"{file.name} holds no API key: remove it")
    return key


async def admit_development_key(cql: Cql, key: ApiKey, pepper: bytes, now_ms: int) -> None:
    """Write the key's row, again if need be. Raises Retryable when Cassandra does not answer."""
    row = ApiKeyRow(
        key_hash=key_hash(key, pepper),
        key_id=key.key_id,
        tenant_id="dev",
        user_id="dev",
        plan="enterprise",
        label="development",
        created_at_ms=now_ms,
    )
    await create_key_row(cql, row)


def _make(file: Path) -> str:
    text = make_api_key(secrets.token_bytes(KEY_ENTROPY_BYTES)).text
    file.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text + "\n")
    return text
