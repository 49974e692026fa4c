"""Leads some of Schemathesis's requests to things that exist: from random ids it would see 404s alone."""

import json
import os
from collections.abc import Mapping
from typing import Any, Final

import schemathesis

# Path parameter or body field -> a value that exists.
KNOWN: Final[Mapping[str, str]] = json.loads(os.environ.get("TURNSTREAM_CONFORMANCE_KNOWN", "{}"))
# One in this many values stays as it was made.
KEPT_ONE_IN: Final = 4


def led(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with known ones in place of most texts of the same name; never in place of a wrong type."""
    return {
        name: KNOWN[name] if name in KNOWN and isinstance(value, str) and value and len(value) % KEPT_ONE_IN else value
        for name, value in values.items()
    }


@schemathesis.hook
def map_body(_context: schemathesis.HookContext, body: Any) -> Any:
    """A known model, mostly."""
    return led(body) if isinstance(body, dict) else body


@schemathesis.hook
def map_path_parameters(_context: schemathesis.HookContext, path_parameters: Any) -> Any:
    """Known ids, mostly."""
    return led(path_parameters) if isinstance(path_parameters, dict) else path_parameters
