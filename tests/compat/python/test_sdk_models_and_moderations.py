"""Models and moderations through OpenAI's SDK for Python."""

import openai
import pytest
from openai import OpenAI
from openai.types import ModerationTextInputParam


def test_models_are_listed_and_shown(client: OpenAI) -> None:
    models = list(client.models.list())
    assert {"turnstream-fast", "turnstream-capable"} <= {model.id for model in models}
    assert client.models.retrieve("turnstream-fast").owned_by
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-nobody")


def test_the_alias_chooses_a_model(client: OpenAI) -> None:
    completion = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "Hello"}])
    assert completion.choices[0].message.content


@pytest.mark.parametrize("given", ["I like trains", ["I like trains", "You too?"]])
def test_harmless_text_is_not_flagged(client: OpenAI, given: str | list[str]) -> None:
    moderation = client.moderations.create(input=given)
    assert len(moderation.results) == (1 if isinstance(given, str) else len(given))
    assert not any(result.flagged for result in moderation.results)
    assert all(0 <= score <= 1 for _, score in moderation.results[0].category_scores)


def test_parts_are_moderated(client: OpenAI) -> None:
    parts: list[ModerationTextInputParam] = [{"type": "text", "text": "I like trains"}]
    moderation = client.moderations.create(model="omni-moderation-latest", input=parts)
    assert moderation.results[0].category_applied_input_types.hate == ["text"]
