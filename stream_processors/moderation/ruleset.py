"""The rules of a policy as data, and their version."""

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

PATTERN_CHARS_MAX: Final = 400
TERM_CHARS_MAX: Final = 100
VERSION_CHARS: Final = 12

# "*", "+", "{3,}", "{3,100}" and a repeated group: each could make a text of n characters cost more than n.
_UNBOUNDED: Final = re.compile(r"(?<!\\)[*+]|\{\d*,\}|\{(?:\d*,)?\d{3,}\}|\)\{")

RuleId = Annotated[str, Field(min_length=1, max_length=64)]
Term = Annotated[str, Field(min_length=1, max_length=TERM_CHARS_MAX)]


class Action(StrEnum):
    """What a match leads to."""

    FLAG = "flag"
    BLOCK = "block"


class PiiKind(StrEnum):
    """Kinds of personal data that are recognised."""

    EMAIL = "email"
    PHONE = "phone"
    IBAN = "iban"
    CARD = "card"
    IP = "ip"


class DenyRule(BaseModel):
    """Terms (words or phrases) that must not occur in a message or an answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: RuleId
    category: RuleId
    action: Action = Action.BLOCK
    terms: tuple[Term, ...] = Field(min_length=1)


class PatternRule(BaseModel):
    """Regular expressions over the normalised words of a message; tried when one of ``triggers`` occurs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: RuleId
    category: RuleId
    action: Action = Action.FLAG
    triggers: tuple[Term, ...] = Field(min_length=1)
    patterns: tuple[str, ...] = Field(min_length=1)

    @field_validator("patterns")
    @classmethod
    def _are_bounded(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            if len(pattern) > PATTERN_CHARS_MAX or _UNBOUNDED.search(pattern):
                raise ValueError(f"a pattern has at most {PATTERN_CHARS_MAX} characters and only bounded repeats")
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error.msg}") from None
        return patterns


RuleT = TypeVar("RuleT", DenyRule, PatternRule)


class RuleSet(BaseModel):
    """All rules of a policy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    deny: tuple[DenyRule, ...] = ()
    pattern: tuple[PatternRule, ...] = ()
    pii: Mapping[PiiKind, Action] = Field(default={}, description="A kind that is not listed is not looked for.")

    def extended(self, other: "RuleSet") -> "RuleSet":
        """These rules and ``other``'s; for personal data the other's actions hold."""
        return RuleSet(deny=self.deny + other.deny, pattern=self.pattern + other.pattern, pii={**self.pii, **other.pii})

    def with_actions(self, actions: Mapping[str, Action]) -> Self:
        """The rules with the action of each category in ``actions`` replaced (``pii/<kind>`` for personal data)."""
        return self.model_copy(
            update={
                "deny": tuple(_with_action(rule, actions) for rule in self.deny),
                "pattern": tuple(_with_action(rule, actions) for rule in self.pattern),
                "pii": {kind: actions.get(pii_category(kind), action) for kind, action in self.pii.items()},
            }
        )

    def version(self) -> str:
        """A name for exactly these rules: equal rules have equal names in every process."""
        ordered = self.model_copy(update={"pii": dict(sorted(self.pii.items()))})
        return hashlib.sha256(ordered.model_dump_json().encode()).hexdigest()[:VERSION_CHARS]


def pii_category(kind: PiiKind) -> str:
    """The category under which a kind of personal data is reported."""
    return f"pii/{kind.value}"


def _with_action(rule: RuleT, actions: Mapping[str, Action]) -> RuleT:
    return rule.model_copy(update={"action": actions.get(rule.category, rule.action)})
