"""Changes to the value of a dead letter on its way back. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import from_json, to_json

from schemas.errors import Malformed


@dataclass(frozen=True, slots=True, repr=False)
class Mending:
    """``patch`` is a JSON Merge Patch (RFC 7396) for the value; ``value`` replaces it. At most one of them."""

    patch: Mapping[str, Any] | None = None
    value: bytes | None = None

    @property
    def changes(self) -> bool:
        """Whether it does anything."""
        return self.patch is not None or self.value is not None

    def apply(self, value: bytes) -> bytes:
        """The mended value. Raises Malformed when there is a patch and the value is no JSON."""
        if self.value is not None:
            return self.value
        if self.patch is None:
            return value
        return to_json(merge_patch(parse_document(value), self.patch))


UNCHANGED: Final = Mending()


def parse_document(value: bytes) -> Any:
    """The JSON in ``value``. Raises Malformed, without telling what is there."""
    try:
        return from_json(value, allow_inf_nan=False)
    except ValueError:
        raise Malformed("the value is no JSON: replace it with --value-file, or discard it") from None


def merge_patch(target: Any, patch: Any) -> Any:
    """``target`` with ``patch`` merged into it, by the pseudo-code of RFC 7396: null removes a member."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, change in patch.items():
        if change is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), change)
    return merged
