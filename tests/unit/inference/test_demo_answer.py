"""The demonstration model's words, without Triton."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.inference.chat_template import Template, render_prompt
from schemas.content import Content
from schemas.messages import Message, Role
from turnstream.local_stack.demo_model import load_demo_model

demo: Any = load_demo_model()
HISTORY = (
    Message(role=Role.SYSTEM, content=Content("Be brief.")),
    Message(role=Role.USER, content=Content("My name is Ada.")),
    Message(role=Role.ASSISTANT, content=Content("Hello Ada.")),
)


def prompt(text: str, prefix: str = "", template: Template = Template.CHATML) -> Any:
    messages = (*HISTORY, Message(role=Role.USER, content=Content(text)))
    return demo.parse_prompt(render_prompt(template, messages, prefix))


def whole(text: str, prefix: str = "", max_tokens: int = 10_000, stop: tuple[str, ...] = ()) -> Any:
    return demo.plan_answer(prompt(text, prefix), max_tokens, stop)


@pytest.mark.parametrize("template", list(Template))
def test_both_templates_are_understood(template: Template) -> None:
    conversation = prompt("What is my name?", "Begun", template)
    assert conversation.messages == (
        ("system", "Be brief."),
        ("user", "My name is Ada."),
        ("assistant", "Hello Ada."),
        ("user", "What is my name?"),
    )
    assert conversation.prefix == "Begun"


def test_it_says_what_it_is_recalls_the_history_and_repeats_the_question() -> None:
    answer = "".join(whole("What is my name?").tokens)
    assert "demonstration model" in answer
    assert "not an AI" in answer
    assert "My name is Ada." in answer
    assert "What is my name?" in answer


@given(text=st.text(max_size=60), cut=st.integers(0, 200), template=st.sampled_from(Template))
def test_a_continued_answer_is_the_same_answer(text: str, cut: int, template: Template) -> None:
    full = "".join(demo.plan_answer(prompt(text, "", template), 10_000).tokens)
    begun = full[:cut]
    rest = "".join(demo.plan_answer(prompt(text, begun, template), 10_000).tokens)
    assert begun + rest == full


@given(st.text(max_size=200))
def test_tokens_join_to_the_text(text: str) -> None:
    assert "".join(demo.split_tokens(text)) == text


@given(count=st.integers(0, 300))
def test_the_directive_sets_the_exact_length(count: int) -> None:
    assert len(whole(f"hi [[demo tokens={count}]]").tokens) == count


def test_the_limit_ends_by_length_and_the_text_by_stop() -> None:
    assert whole("hi", max_tokens=3).finish_reason == "length"
    assert len(whole("hi", max_tokens=3).tokens) == 3
    assert whole("hi").finish_reason == "stop"


def test_a_stop_word_ends_it_unseen_even_if_it_began_in_the_prefix() -> None:
    assert "".join(whole("hi", stop=("built",)).tokens) == "This is the "
    assert whole("hi", prefix="This is the bu", stop=("built",)).tokens == ()


def test_the_directive_sets_pace_and_errors() -> None:
    plan = whole("[[demo first_ms=50 gap_ms=2.5 tokens=9 error=unavailable error_after=4]]")
    assert plan.due_ms(2) == 55.0
    assert (plan.error, plan.error_at) == ("unavailable", 4)


def test_an_error_strikes_only_a_generation_that_began_before_it() -> None:
    text = "[[demo error=unavailable error_after=4]]"
    begun = "".join(whole(text).tokens[:4])
    assert whole(text, begun).error is None
    assert whole("[[demo error=invalid]]", begun).error == "invalid"


@pytest.mark.parametrize("directive", ["[[demo tokens=x gap_ms=-1]]", "[[demo ]]", "[[demo tokens=" + "9" * 99 + "]]"])
def test_a_bad_directive_changes_nothing(directive: str) -> None:
    assert whole(directive).pace == demo.Pace()


def test_a_server_takes_its_pace_from_parameters_and_environment() -> None:
    pace = demo.server_pace({"gap_ms": "7", "answer_tokens": ""}, {"TURNSTREAM_DEMO_FIRST_TOKEN_MS": "1"})
    assert (pace.first_ms, pace.gap_ms, pace.tokens) == (1.0, 7.0, None)


def test_a_text_without_a_template_is_one_message() -> None:
    assert demo.parse_prompt("hello").messages == (("user", "hello"),)
