"""What a request needs of a model beside text, and under which parameter it says so."""

from collections.abc import Callable
from typing import Final, NamedTuple

from schemas.events import Api, Turn
from schemas.models import Feature, ModelCard


class Need(NamedTuple):
    """A feature, and the parameter of the request that asks for it."""

    feature: Feature
    param: str


_PARAMS: Final[dict[Api, dict[Feature, str]]] = {
    "chat_completions": {
        "tools": "tools",
        "json_object": "response_format",
        "json_schema": "response_format",
        "logprobs": "logprobs",
        "choices": "n",
        "logit_bias": "logit_bias",
        "reasoning_effort": "reasoning_effort",
    },
    "responses": {
        "tools": "tools",
        "json_object": "text.format",
        "json_schema": "text.format",
        "logprobs": "top_logprobs",
        "choices": "n",
        "logit_bias": "logit_bias",
        "reasoning_effort": "reasoning.effort",
    },
}

_ASKED: Final[dict[Feature, Callable[[Turn], bool]]] = {
    "tools": lambda turn: bool(turn.generation.tools),
    "json_object": lambda turn: _format(turn) == "json_object",
    "json_schema": lambda turn: _format(turn) == "json_schema",
    "logprobs": lambda turn: turn.generation.logprobs,
    "choices": lambda turn: turn.generation.n > 1,
    "logit_bias": lambda turn: bool(turn.sampling.logit_bias),
    "reasoning_effort": lambda turn: turn.generation.reasoning_effort not in {None, "none"},
}


def needs_of(turn: Turn) -> tuple[Need, ...]:
    """Every feature that the turn asks for."""
    return tuple(Need(feature, _PARAMS[turn.api][feature]) for feature, asked in _ASKED.items() if asked(turn))


def lacking(card: ModelCard, needs: tuple[Need, ...]) -> Need | None:
    """The first of ``needs`` that the model does not have."""
    for need in needs:
        if need.feature not in card.features:
            return need
    return None


def _format(turn: Turn) -> str | None:
    form = turn.generation.response_format
    return None if form is None else form.kind
