"""OpenAI's moderation object from the policy's verdict. Pure.

The policy is a set of rules: a category is matched or not, so a score is 1 or 0. What the pipeline would do with the
text, and the policy's own categories, are in ``policy``, which OpenAI does not have.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from schemas.events import Decision
from schemas.ports import Verdict

CATEGORIES: Final = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
MODELS: Final = (
    "omni-moderation-latest",
    "omni-moderation-2024-09-26",
    "text-moderation-latest",
    "text-moderation-stable",
)
INPUTS_MAX: Final = 256
_STRICT: Final = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)


class TextInput(BaseModel):
    """A text part of a multimodal input; the policy reads texts alone."""

    model_config = _STRICT

    type: Literal["text"]
    text: str


def _kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "<text>"
    if not isinstance(value, tuple):
        return None
    return "<texts>" if all(isinstance(part, str) for part in value) else "<parts>"


Input = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[tuple[str, ...], Field(min_length=1, max_length=INPUTS_MAX), Tag("<texts>")]
    | Annotated[tuple[TextInput, ...], Field(min_length=1, max_length=INPUTS_MAX), Tag("<parts>")],
    Discriminator(
        _kind, custom_error_type="input_type", custom_error_message="Input should be a string, strings or text parts"
    ),
    BeforeValidator(
        lambda value: tuple(value) if isinstance(value, list) else value,
        json_schema_input_type=str | list[str] | list[TextInput],
    ),
]


class ModerationRequest(BaseModel):
    """What to judge. None: absent."""

    model_config = _STRICT

    input: Input
    model: str | None = Field(default=None, max_length=64)


def groups_of(request: ModerationRequest) -> tuple[tuple[str, ...], ...]:
    """The texts of each result: one per string; the parts of a multimodal input belong together."""
    given = request.input
    if isinstance(given, str):
        return ((given,),)
    texts = [part for part in given if isinstance(part, str)]
    return tuple((text,) for text in texts) or (tuple(part.text for part in given if isinstance(part, TextInput)),)


def result_of(verdict: Verdict) -> dict[str, Any]:
    """One element of ``results``; a category includes its subcategories."""
    found = set(verdict.categories) | {category.partition("/")[0] for category in verdict.categories}
    matched = {category: category in found for category in CATEGORIES}
    blocked = verdict.decision is not Decision.ALLOWED
    return {
        "flagged": blocked or any(matched.values()),
        "categories": matched,
        "category_scores": {category: float(match) for category, match in matched.items()},
        "category_applied_input_types": {category: ["text"] for category in CATEGORIES},
        "policy": {"blocked": blocked, "categories": list(verdict.categories)},
    }
