"""The key with which a developer talks to the local stack: made once, kept in one file, for its owner alone."""

import os
import secrets
from pathlib import Path

from producers.ingest.api_keys import KEY_ENTROPY_BYTES, key_hash, make_api_key, parse_api_key
from schemas.errors import Fatal
from schemas.ports import Cql
from turnstream.stores.api_keys import ApiKeyRow, create_key_row


async def ensure_development_key(cql: Cql, file: Path, pepper: bytes, now_ms: int) -> str:
    """The text of the key in ``file``, made if it is not there; its row is written in any case.

    Raises Fatal when the file holds something else than a key, Retryable when Cassandra does not answer.
    """
    text = file.read_text().strip() if file.exists() else _make(file)
    key = parse_api_key(text)
    if key is None:
        raise Fatal(f"{file.name} holds no API key: remove it")
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
    return text


def _make(file: Path) -> str:
    text = make_api_key(secrets.token_bytes(KEY_ENTROPY_BYTES)).text
    file.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text + "\n")
    return text
