"""The base of everything on the log."""

import operator
from typing import Final

from pydantic import BaseModel, ConfigDict


class Event(BaseModel):
    """Base of everything on the log. Unknown fields are ignored, so that fields can be added."""

    # A validation error shows no input: it may hold content.
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


# Whether a field has the value that stands for its absence: it is left out of the record (``exclude_if``).
unset: Final = operator.not_
