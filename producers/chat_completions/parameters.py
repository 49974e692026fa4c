"""The parameters of OpenAI's chat completions API that a turn does not have, and when they are harmless.

A client library may send a parameter that it does not use, with the value that means nothing. Such a
value is accepted; any other would change the answer, so it is refused by name instead of being ignored.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from producers.http.refused import RequestRefused
from producers.http.validation import printable
from schemas.errors import Refusal, invalid_request

_NAME_CHARS_MAX: Final = 64

HARMLESS_VALUES: Final[Mapping[str, tuple[Any, ...]]] = MappingProxyType(
    {
        "audio": (None,),
        "function_call": (None, "none", "auto"),
        "functions": (None, []),
        "modalities": (None, ["text"]),
        "moderation": (None,),
        "prediction": (None,),
        "prompt_cache_options": (None,),
        "prompt_cache_retention": (None,),
        "service_tier": (None, "auto", "default"),
        "web_search_options": (None,),
    }
)

# What a client gets back in an assistant message and may send again as it is.
HARMLESS_MESSAGE_VALUES: Final[Mapping[str, tuple[Any, ...]]] = MappingProxyType(
    {"annotations": (None, []), "audio": (None,), "function_call": (None,), "parsed": (None,)}
)


def refuse_extra(extra: Mapping[str, Any] | None, harmless: Mapping[str, tuple[Any, ...]], where: str = "") -> None:
    """Refuse the first field in ``extra`` that would change the answer or that nobody knows: RequestRefused (400).

    ``where`` is prepended to the field's name in ``param``. Values are never repeated.
    """
    for name, value in (extra or {}).items():
        allowed = harmless.get(name)
        if allowed is None:
            raise RequestRefused(_unknown(name, where))
        if not any(type(value) is type(one) and value == one for one in allowed):
            raise RequestRefused(_unsupported(name, where))


def _unknown(name: str, where: str) -> Refusal:
    shown = printable(name, _NAME_CHARS_MAX)
    return invalid_request(
        f"Unrecognized request argument supplied: {shown}", param=where + shown, code="unknown_parameter"
    )


def _unsupported(name: str, where: str) -> Refusal:
    return invalid_request(
        f"Unsupported parameter: '{where}{name}' is not supported by this API beyond its default.",
        param=where + name,
        code="unsupported_parameter",
    )
