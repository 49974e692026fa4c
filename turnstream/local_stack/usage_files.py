"""Where the usage files of a development stack lie: with its data, since both name the offsets of one log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from turnstream.local_stack.layout import Layout

URL: Final = "TURNSTREAM_USAGE_SINK__URL"
FILE_SECONDS: Final = "TURNSTREAM_USAGE_SINK__FILE_SECONDS_MAX"
# Somebody who tries things looks at once; a deployment wants larger files.
_FILE_SECONDS_HERE: Final = "5"


def usage_files(layout: Layout, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the usage sink and of `turnstream usage`; what the user's environment says wins."""
    here = {URL: (layout.data / "usage").as_uri(), FILE_SECONDS: _FILE_SECONDS_HERE}
    return {name: environ.get(name) or value for name, value in here.items()}
