"""What an account sees of the catalogue, and which names find it."""

import pytest

from producers.models.core import find, shown
from schemas.accounts import Account
from schemas.models import DEFAULT_CATALOGUE, Catalogue, ModelCard
from schemas.plans import DEFAULT_PLANS

CATALOGUE = Catalogue.of(DEFAULT_CATALOGUE)
ANN = Account(tenant_id="acme", user_id="ann", key_id="k", plan="pro")


def ids_of(plan: str, models: tuple[str, ...] | None = None) -> list[str]:
    account = ANN.model_copy(update={"plan": plan, "models": models})
    return [model["id"] for model in shown(account, DEFAULT_PLANS[plan], CATALOGUE)]


def test_a_plan_sees_its_models() -> None:
    assert ids_of("pro") == ["turnstream-fast", "turnstream-capable"]
    assert ids_of("free") == ["turnstream-fast"]
    assert ids_of("suspended") == []


def test_a_key_that_is_confined_sees_its_models_of_the_plan() -> None:
    assert ids_of("pro", ("turnstream-capable",)) == ["turnstream-capable"]
    assert ids_of("free", ("turnstream-capable",)) == []


def test_a_model_tells_what_a_client_chooses_by() -> None:
    (model,) = shown(ANN, DEFAULT_PLANS["free"], CATALOGUE)
    assert (model["object"], model["context_length"], model["max_output_tokens"]) == ("model", 8_192, 2_048)
    assert (model["tier"], model["aliases"]) == ("fast", ["fast"])
    assert "tools" in model["features"]
    assert model["pricing"]["output"] == 0.4


def test_an_alias_and_auto_are_found_by_name() -> None:
    models = shown(ANN, DEFAULT_PLANS["pro"], CATALOGUE)
    for name, found_id in (("capable", "turnstream-capable"), ("turnstream-fast", "turnstream-fast")):
        found = find(name, models)
        assert found is not None
        assert found["id"] == found_id
    auto = find("auto", models)
    assert auto is not None
    assert auto["stands_for"] == ["turnstream-fast", "turnstream-capable"]
    assert find("gpt-4", models) is None
    assert find("auto", []) is None


def card(name: str, **changes: object) -> ModelCard:
    values: dict[str, object] = {"id": name, "pool": "fast", "context_tokens": 100, "output_tokens_max": 10}
    return ModelCard.model_validate({**values, **changes})


@pytest.mark.parametrize(
    "cards",
    [
        (card("a"), card("a")),
        (card("a", aliases=("b",)), card("b")),
        (card("a", aliases=("auto",)),),
        (card("auto"),),
        (card("a", fallbacks=("nowhere",)),),
    ],
)
def test_an_ambiguous_catalogue_is_refused(cards: tuple[ModelCard, ...]) -> None:
    with pytest.raises(ValueError, match=r"taken|twice|no such|not a name"):
        Catalogue.of(cards)
