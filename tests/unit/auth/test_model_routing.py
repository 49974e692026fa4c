"""Which model answers: names, aliases, the rule of `auto`, features and fallbacks."""

from typing import Any

import pytest

from schemas.content import Content
from schemas.errors import Refusal
from schemas.events import Route
from schemas.generation import FunctionTool, Generation, ResponseFormat
from schemas.models import Catalogue, ModelCard
from schemas.plans import Plan
from stream_processors.auth.routing import Chosen, Entitlements, choose
from tests.support.turn_events import ACCOUNT, submitted, turn, user

FAST = ModelCard(
    id="quick",
    pool="fast",
    context_tokens=4_000,
    output_tokens_max=1_000,
    aliases=("q",),
    features=("tools", "json_object", "reasoning_effort"),
    fallbacks=("deep", "quick"),
)
CAPABLE = ModelCard(id="deep", pool="capable", context_tokens=32_000, output_tokens_max=8_000)
PLANS = {"all": Plan(models=("quick", "deep")), "small": Plan(models=("quick",)), "pro": Plan(models=("deep",))}
ENTITLEMENTS = Entitlements(Catalogue.of((FAST, CAPABLE)), PLANS, 100)
TOOLS = Generation(tools=(FunctionTool(name="f"),))
JSON = Generation(response_format=ResponseFormat(kind="json_schema"))


def choice(model: str, plan: str = "all", text: str = "hi", **changes: Any) -> Chosen | Refusal:
    account = ACCOUNT.model_copy(update={"plan": plan})
    return choose(submitted(turn(model=model, **changes), user(text)), account, ENTITLEMENTS)


def chosen(model: str, plan: str = "all", text: str = "hi", **changes: Any) -> str:
    found = choice(model, plan, text, **changes)
    assert isinstance(found, Chosen)
    return found.card.id


def test_an_alias_stands_for_its_model() -> None:
    assert chosen("q") == chosen("quick") == "quick"


def test_auto_is_fast_for_what_is_easy() -> None:
    assert chosen("auto") == "quick"
    assert chosen("auto", generation=Generation(reasoning_effort="low")) == "quick"


@pytest.mark.parametrize(
    "changes",
    [
        {"generation": TOOLS},
        {"generation": JSON},
        {"generation": Generation(reasoning_effort="high")},
        {"text": "x" * 1_000},
        {"instructions": Content("x" * 1_000)},
    ],
)
def test_auto_is_capable_for_what_is_not(changes: dict[str, Any]) -> None:
    assert chosen("auto", **changes) == "deep"


def test_auto_takes_what_the_plan_has() -> None:
    assert chosen("auto", "small", generation=TOOLS) == "quick"
    assert chosen("auto", "pro") == "deep"


def test_auto_takes_what_the_key_allows() -> None:
    account = ACCOUNT.model_copy(update={"plan": "all", "models": ("deep",)})
    found = choose(submitted(turn(model="auto")), account, ENTITLEMENTS)
    assert isinstance(found, Chosen)
    assert found.card.id == "deep"


@pytest.mark.parametrize(("model", "plan"), [("quick", "small"), ("auto", "small")])
@pytest.mark.parametrize(
    ("generation", "api", "param"),
    [
        (JSON, "chat_completions", "response_format"),
        (JSON, "responses", "text.format"),
        (Generation(logprobs=True), "chat_completions", "logprobs"),
        (Generation(n=2), "chat_completions", "n"),
    ],
)
def test_a_feature_that_the_model_lacks_is_refused_by_the_name_of_its_parameter(
    model: str, plan: str, generation: Generation, api: str, param: str
) -> None:
    refusal = choice(model, plan, generation=generation, api=api)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.error.code, refusal.error.param) == (400, "unsupported_parameter", param)


def test_fallbacks_are_those_that_the_account_may_ask_and_that_can() -> None:
    found = choice("quick")
    assert isinstance(found, Chosen)
    assert found.fallbacks == (Route(model="deep", pool="capable"),)
    confined = choice("quick", "small")
    assert isinstance(confined, Chosen)
    assert confined.fallbacks == ()


@pytest.mark.parametrize("model", ["deep", "never heard of"])
def test_what_the_plan_lacks_does_not_exist(model: str) -> None:
    refusal = choice(model, "small")
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.error.code) == (404, "model_not_found")
