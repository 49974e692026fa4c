"""What lies with the data of a development stack, as it names offsets of its log: usage files, progress of replays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from turnstream.local_stack.layout import Layout

URL: Final = "TURNSTREAM_USAGE_SINK__URL"
FILE_SECONDS: Final = "TURNSTREAM_USAGE_SINK__FILE_SECONDS_MAX"
REPLAYS: Final = "TURNSTREAM_REPLAY__FOLDER"
# Somebody who tries things looks at once; a deployment wants larger files.
_FILE_SECONDS_HERE: Final = "5"


def data_files(layout: Layout, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of usage sink, usage reports and replays; what the user's environment says wins."""
    here = {
        URL: (layout.data / "usage").as_uri(),
        FILE_SECONDS: _FILE_SECONDS_HERE,
        REPLAYS: str(layout.data / "replays"),
    }
    return {name: environ.get(name) or value for name, value in here.items()}
