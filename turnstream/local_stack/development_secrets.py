"""The secrets of a development stack: made here, kept in files that only the user may read, gone with `--wipe`.

They lie with the data because they belong to it: Cassandra holds the key's hash under this pepper.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import Final

from turnstream.local_stack.layout import Layout

PEPPER: Final = "TURNSTREAM_SECRETS__API_KEY_PEPPER"
PEPPER_FILE: Final = "TURNSTREAM_SECRETS__API_KEY_PEPPER_FILE"
DEVELOPMENT_KEY_FILE: Final = "TURNSTREAM_SECRETS__DEVELOPMENT_KEY_FILE"
_PEPPER_BYTES: Final = 32


def secret_files(layout: Layout, environ: Mapping[str, str]) -> dict[str, str]:
    """Make the pepper if there is none, and return the variables that say where the secrets lie.

    What the user's environment already says is left alone. `turnstream bootstrap` makes the key itself.
    """
    folder = layout.data / "secrets"
    folder.mkdir(mode=0o700, exist_ok=True)
    files = {DEVELOPMENT_KEY_FILE: str(folder / "development-key")}
    if not environ.get(PEPPER):
        pepper = folder / "pepper"
        if not pepper.exists():
            with os.fdopen(os.open(pepper, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(secrets.token_hex(_PEPPER_BYTES))
        files[PEPPER_FILE] = str(pepper)
    return {name: environ.get(name) or path for name, path in files.items()}
