"""The parameters of OpenAI's Responses API that a turn does not have, and when they are harmless."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

# As in ``producers.chat_completions.parameters``: any other value is refused by name.
HARMLESS_VALUES: Final[Mapping[str, tuple[Any, ...]]] = MappingProxyType(
    {
        "access_programs": (None,),
        "context_management": (None, []),
        "image": (None,),
        "max_tool_calls": (None,),
        "moderation": (None,),
        "prompt": (None,),
        "prompt_cache_options": (None,),
        "prompt_cache_retention": (None,),
        "service_tier": (None, "auto", "default"),
        # What does not fit of the history is left out, always.
        "truncation": (None, "auto"),
    }
)
