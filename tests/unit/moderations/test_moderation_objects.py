"""Moderation objects from verdicts, and which texts belong together."""

import pytest
from pydantic import ValidationError

from producers.moderations.core import CATEGORIES, INPUTS_MAX, ModerationRequest, groups_of, result_of
from schemas.events import Decision
from schemas.ports import Verdict


def asked(body: str) -> tuple[tuple[str, ...], ...]:
    return groups_of(ModerationRequest.model_validate_json(body))


def test_a_string_is_one_result_and_strings_are_one_each() -> None:
    assert asked('{"input": "a"}') == (("a",),)
    assert asked('{"input": ["a", "b"]}') == (("a",), ("b",))


def test_the_parts_of_a_multimodal_input_are_one_result() -> None:
    assert asked('{"input": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}') == (("a", "b"),)


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"input": 1}',
        '{"input": null}',
        '{"input": []}',
        '{"input": ["a", 1]}',
        '{"input": [{"type": "image_url", "image_url": {"url": "http://x"}}]}',
        '{"input": "a", "other": 1}',
    ],
)
def test_what_cannot_be_judged_is_refused(body: str) -> None:
    with pytest.raises(ValidationError):
        asked(body)


def test_as_many_inputs_as_the_limit() -> None:
    with pytest.raises(ValidationError):
        ModerationRequest(input=("a",) * (INPUTS_MAX + 1))


def test_an_allowed_text_has_all_categories_and_none_is_true() -> None:
    result = result_of(Verdict(Decision.ALLOWED))
    assert result["flagged"] is False
    assert set(result["categories"]) == set(result["category_scores"]) == set(CATEGORIES)
    assert not any(result["categories"].values())
    assert set(map(tuple, result["category_applied_input_types"].values())) == {("text",)}


def test_a_category_is_flagged_with_the_one_above_it() -> None:
    result = result_of(Verdict(Decision.ALLOWED, ("self-harm/instructions",)))
    assert result["flagged"] is True
    assert {name for name, match in result["categories"].items() if match} == {"self-harm", "self-harm/instructions"}
    assert result["category_scores"]["self-harm"] == 1.0
    assert result["policy"] == {"blocked": False, "categories": ["self-harm/instructions"]}


def test_what_the_pipeline_would_block_is_flagged_whatever_its_category() -> None:
    result = result_of(Verdict(Decision.BLOCKED_INPUT, ("jailbreak",)))
    assert (result["flagged"], result["policy"]["blocked"]) == (True, True)
    assert result_of(Verdict(Decision.ALLOWED, ("pii/email",)))["flagged"] is False
