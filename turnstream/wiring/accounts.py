"""The accounts API of an edge process."""

import secrets
import time

from producers.accounts.accounts_api import AccountsApi, AccountSecrets
from producers.accounts.change_log import AccountChangeLog
from producers.accounts.ports import AccountPorts
from producers.accounts.signing_keys import SigningKeys, derive_signing_keys, parse_signing_keys
from producers.ingest.core import IngestSettings
from schemas.errors import Fatal
from schemas.ports import Cql, Producer
from stream_processors.auth.cassandra_accounts import CassandraAccounts
from turnstream.clocks import now_ms
from turnstream.settings import PREFIX, Settings
from turnstream.stores.api_keys import CassandraApiKeys
from turnstream.stores.sessions import CassandraSessions
from turnstream.stores.users import CassandraUsers


def accounts_api(settings: Settings, ingest: IngestSettings, producer: Producer, cql: Cql) -> AccountsApi:
    """The accounts API on Cassandra and the log. Raises Fatal for signing keys that cannot be read."""
    ports = AccountPorts(
        directory=CassandraAccounts(cql, settings.auth.statements_in_flight_max),
        users=CassandraUsers(cql),
        sessions=CassandraSessions(cql),
        keys=CassandraApiKeys(cql),
        changes=AccountChangeLog(producer, secrets.token_bytes),
        now_ms=now_ms,
        monotonic_s=time.monotonic,
        entropy=secrets.token_bytes,
    )
    keys = AccountSecrets(pepper=settings.pepper_bytes, signing_keys=signing_keys(settings))
    return AccountsApi(ports, settings.accounts, ingest, keys, plans=settings.plans)


def signing_keys(settings: Settings) -> SigningKeys:
    """The keys of access tokens: those of the file, else one derived from the pepper. Raises Fatal."""
    file = settings.secrets.signing_keys_file
    if file is None:
        return derive_signing_keys(settings.pepper_bytes)
    try:
        return parse_signing_keys(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Fatal(f"{PREFIX}SECRETS__SIGNING_KEYS_FILE: {error.strerror}") from None
