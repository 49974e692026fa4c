"""``metadata``: up to 16 short texts that a client attaches to an object, under short names."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

PAIRS_MAX: Final = 16
KEY_CHARS_MAX: Final = 64
VALUE_CHARS_MAX: Final = 512

Metadata = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=KEY_CHARS_MAX)], Annotated[str, Field(max_length=VALUE_CHARS_MAX)]
    ],
    Field(max_length=PAIRS_MAX),
]


class MetadataUpdate(BaseModel):
    """A body that replaces the metadata of an object."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)

    metadata: Metadata | None
