"""The policy: a verdict on a text, from rules alone. Pure, and linear in the text's length."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.events import Decision
from schemas.ports import Verdict
from stream_processors.moderation.normalise import (
    NORMALISATION_VERSION,
    SPELLED_LETTERS_MIN,
    fold,
    may_read_otherwise,
    plain,
    readings,
    spelled_out,
    words,
)
from stream_processors.moderation.pii import find_pii
from stream_processors.moderation.ruleset import Action, DenyRule, PatternRule, RuleSet, pii_category

# From here on, Unicode's scripts (Chinese, Japanese, Korean) put no spaces between words; nor do those of
# South-East Asia.
_UNSPACED: Final = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\U0001f000]")


ALLOWED: Final = Verdict(Decision.ALLOWED)


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that matched."""

    id: str
    category: str
    action: Action


class Policy:
    """Judges inputs and answers by one ``RuleSet``; also the ``OutputPolicy`` of the inference consumer.

    Expressions and word lists are compiled once. ``version`` names the rules in every decision.
    """

    def __init__(self, rules: RuleSet) -> None:
        self.version = f"{rules.version()}-{NORMALISATION_VERSION}"
        self._terms = _Terms(rules.deny)
        self._patterns = _Patterns(rules.pattern)
        self._pii = {kind: Hit(pii_category(kind), pii_category(kind), action) for kind, action in rules.pii.items()}

    def judge_input(self, texts: Iterable[str]) -> Verdict:
        """The verdict on the messages of a turn; a term does not match across two messages."""
        hits: set[Hit] = set()
        for text in texts:
            folded = fold(text)
            for found in readings(folded):
                hits.update(self._terms.hits(found))
                hits.update(self._patterns.hits(found))
            hits.update(self._terms.unspaced_hits(folded))
            hits.update(self._pii[kind] for kind in find_pii(plain(text)) if kind in self._pii)
        return _verdict(hits, Decision.BLOCKED_INPUT)

    def judge_output(self, text: str, before: str = "") -> Verdict:
        """The verdict on the next piece of an answer, by the denied terms; patterns and personal data are for inputs.

        ``before`` has room for the longest term (``TERM_CHARS_MAX`` characters, twice that when it is spelled out).
        A term that was not there before ends in ``text``: most pieces have no last word of any, and are done with.
        """
        if not self._terms.may_end_in(text, before):
            return ALLOWED
        folded = fold(before + text)
        hits = set(self._terms.unspaced_hits(folded))
        for found in readings(folded):
            hits.update(self._terms.hits(found))
        return _verdict(hits, Decision.BLOCKED_OUTPUT)


class _Terms:
    """Denied terms by their first word: a text without any of these words is done after one set operation."""

    def __init__(self, rules: Sequence[DenyRule]) -> None:
        self._phrases: dict[str, list[tuple[list[str], Hit]]] = {}
        self._last_words: set[str] = set()
        self._compact: dict[str, Hit] = {}
        self._unspaced: dict[str, Hit] = {}
        for rule in rules:
            hit = Hit(rule.id, rule.category, rule.action)
            for term in map(fold, rule.terms):
                self._add(term, hit)

    def _add(self, term: str, hit: Hit) -> None:
        if _UNSPACED.search(term):
            self._unspaced[term] = hit
        # A term is also denied without its spaces and hyphens, as one word.
        for phrase in (words(term), ["".join(words(term))]):
            self._phrases.setdefault(phrase[0], []).append((phrase, hit))
            self._last_words.add(phrase[-1])
        compact = "".join(words(term))
        if len(compact) >= SPELLED_LETTERS_MIN:
            self._compact[compact] = hit

    def may_end_in(self, text: str, before: str) -> bool:
        """Whether the last word of a term, or the last letter of one that is spelled out, may be in ``text``."""
        begun = before[before.rfind(" ") + 1 :] + text
        if not begun.isascii() or (self._unspaced and not before.isascii()):
            return True
        folded = fold(begun)
        if may_read_otherwise(folded):
            return True
        found = words(folded)
        return not self._last_words.isdisjoint(found) or 1 in map(len, found)

    def hits(self, found: Sequence[str]) -> list[Hit]:
        """The rules whose terms are among the words ``found``, in their order or spelled out."""
        hits: list[Hit] = []
        if not self._phrases.keys().isdisjoint(found):
            for index, word in enumerate(found):
                for phrase, hit in self._phrases.get(word, ()):
                    if found[index : index + len(phrase)] == phrase:
                        hits.append(hit)
        for run in spelled_out(found):
            hits += [hit for compact, hit in self._compact.items() if compact in run]
        return hits

    def unspaced_hits(self, folded: str) -> Sequence[Hit]:
        """The rules with a term in a script without spaces that occurs anywhere in the text."""
        return () if folded.isascii() else [hit for term, hit in self._unspaced.items() if term in folded]


class _Patterns:
    """Expressions by the words that trigger them: a text without any of these is done after one set operation."""

    def __init__(self, rules: Sequence[PatternRule]) -> None:
        self._triggered: dict[str, list[tuple[re.Pattern[str], Hit]]] = {}
        for rule in rules:
            expression = re.compile("|".join(f"(?:{pattern})" for pattern in rule.patterns))
            hit = Hit(rule.id, rule.category, rule.action)
            for word in {word for trigger in rule.triggers for word in words(fold(trigger))}:
                self._triggered.setdefault(word, []).append((expression, hit))

    def hits(self, found: Sequence[str]) -> set[Hit]:
        """The rules of which a trigger is among the words ``found`` and an expression matches them."""
        triggers = self._triggered.keys() & found
        if not triggers:
            return set()
        text = " ".join(found)
        tried = {each for trigger in triggers for each in self._triggered[trigger]}
        return {hit for expression, hit in tried if expression.search(text)}


def _verdict(hits: set[Hit], blocked: Decision) -> Verdict:
    if not hits:
        return ALLOWED
    return Verdict(
        decision=blocked if any(hit.action is Action.BLOCK for hit in hits) else Decision.ALLOWED,
        categories=tuple(sorted({hit.category for hit in hits})),
        rules=tuple(sorted({hit.id for hit in hits})),
    )
