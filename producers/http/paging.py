"""Pages of lists that are short enough to be read whole."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from producers.http.refused import RequestRefused
from schemas.errors import invalid_request

LIMIT_DEFAULT: Final = 20
LIMIT_MAX: Final = 100

Order = Literal["asc", "desc"]


def page(
    objects: Sequence[Mapping[str, Any]], *, limit: int, after: str | None = None, order: Order = "asc"
) -> dict[str, Any]:
    """Up to ``limit`` of ``objects`` (oldest first, each with an ``id``) beyond ``after``, in the asked order.

    Raises RequestRefused (400) when ``after`` is none of them.
    """
    ordered = list(objects) if order == "asc" else list(reversed(objects))
    if after is not None:
        places = [index for index, one in enumerate(ordered) if one["id"] == after]
        if not places:
            refusal = invalid_request("'after' is not the id of an object of this list.", "after", "invalid_value")
            raise RequestRefused(refusal)
        ordered = ordered[places[0] + 1 :]
    return listed(ordered[:limit], has_more=len(ordered) > limit)


def listed(objects: Sequence[Mapping[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """OpenAI's list of ``objects``."""
    return {
        "object": "list",
        "data": list(objects),
        "first_id": objects[0]["id"] if objects else None,
        "last_id": objects[-1]["id"] if objects else None,
        "has_more": has_more,
    }
