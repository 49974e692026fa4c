"""What the demonstration model does with tools, JSON and several choices."""

import itertools
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.inference.chat_template import Template, render_prompt
from consumers.inference.tool_markup import opening
from schemas.content import Content
from schemas.generation import FunctionTool, Generation, ResponseFormat, ToolChoice
from schemas.messages import Message, Role, ToolCall
from turnstream.local_stack.demo_model import load_demo_model

demo: Any = load_demo_model()
schemas: Any = load_demo_model("demo_schema")
tools: Any = load_demo_model("demo_tools")


def properties(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields)}


INTEGER, STRING = {"type": "integer"}, {"type": "string"}
MAGIC = tools.Tool("magic_function", "Applies a magic function to an input.", properties(input=INTEGER))
WEATHER = tools.Tool("get_weather", "Get the current weather.", properties(location=STRING))
ADD = tools.Tool("add", "Add two integers.", properties(a=INTEGER, b=INTEGER))


def reply(text: str, *offered: Any, **asked: Any) -> Any:
    conversation = demo.Conversation((("user", text),), tools=offered, **asked)
    return demo.plan_answer(conversation, 10_000)


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("What is magic_function(3)? Use the tool", "magic_function", {"input": 3}),
        ("What is the weather in San Francisco, CA?", "get_weather", {"location": "San Francisco, CA"}),
        ("What's the weather like in Paris?", "get_weather", {"location": "Paris"}),
        ("Add 11 and 49.", "add", {"a": 11, "b": 49}),
        ("What is 3 plus 4?", "add", {"a": 3, "b": 4}),
    ],
)
def test_a_plausible_question_calls_the_tool_with_its_values(text: str, name: str, arguments: object) -> None:
    call = reply(text, MAGIC, WEATHER, ADD).call
    assert (call.name, json.loads(call.arguments)) == (name, arguments)


@pytest.mark.parametrize("text", ["Hello!", "Tell me a joke about cats.", "Who are you?", ""])
def test_other_questions_are_answered_as_without_tools(text: str) -> None:
    assert reply(text, MAGIC, WEATHER, ADD).tokens == reply(text).tokens


def test_a_tool_is_called_when_it_must_and_not_when_it_must_not() -> None:
    assert reply("Hello!", WEATHER, mode="required").call.name == "get_weather"
    assert reply("The weather in Paris?", WEATHER, mode="none").call is None
    assert reply("Hello! [[demo tool=add]]", WEATHER, ADD).call.name == "add"
    assert reply("The weather in Paris? [[demo tool=none]]", WEATHER).call is None


def test_after_a_tool_has_answered_the_answer_tells_it() -> None:
    messages = (("user", "The weather in Paris?"), ("assistant", "(called get_weather)"), ("tool", "22 degrees"))
    plan = demo.plan_answer(demo.Conversation(messages, tools=(WEATHER,)), 10_000)
    assert plan.call is None
    assert "22 degrees" in "".join(plan.tokens)


def test_quoted_values_are_taken_as_they_are() -> None:
    customer = tools.Tool("create_customer", "Create a customer.", properties(customer_name=STRING))
    call = reply("Create a customer named '你好啊集团' (Hello Group) - a technology company", customer).call
    assert json.loads(call.arguments) == {"customer_name": "你好啊集团"}


SCHEMAS = (
    properties(setup=STRING, punchline=STRING),
    properties(when={"type": "string", "format": "date"}, mail={"type": "string", "format": "email"}),
    properties(kind={"enum": ["a", "b"]}, fixed={"const": 7}, maybe={"anyOf": [{"type": "null"}, INTEGER]}),
    properties(numbers={"type": "array", "items": {"type": "number"}, "minItems": 2}),
    properties(deep=properties(flag={"type": "boolean"}, names={"type": "array", "items": STRING, "maxItems": 1})),
    properties(age={"type": "integer", "minimum": 18, "maximum": 99, "multipleOf": 2}, id={"type": ["string", "null"]}),
    properties(short={"type": "string", "minLength": 3, "maxLength": 5}),
    {"$ref": "#/$defs/A", "$defs": {"A": properties(b={"$ref": "#/$defs/B"}), "B": properties(x=INTEGER)}},
    {"allOf": [properties(a=INTEGER), properties(b=STRING)]},
    {"type": "array", "items": properties(a=INTEGER)},
    {"type": "object"},
)
WORDS = ("'quoted'", "3", "2.5", "in Paris", "b", "2024-02-03", "a@b.example", "not", "`setup`", "\n", '"x y"')


@given(schema=st.sampled_from(SCHEMAS), words=st.lists(st.sampled_from(WORDS), max_size=8))
def test_json_is_what_its_schema_allows(schema: dict[str, Any], words: list[str]) -> None:
    plan = reply(" ".join(words), schema=schema)
    checker = jsonschema.FormatChecker()
    jsonschema.validate(json.loads("".join(plan.tokens)), schema, format_checker=checker)


def test_json_without_a_schema_has_the_keys_that_were_asked_for() -> None:
    text = "Tell me a joke. Return the result as JSON with 'setup' and 'punchline' keys."
    assert set(json.loads("".join(reply(text, schema={}).tokens))) == {"setup", "punchline"}
    assert isinstance(json.loads("".join(reply("Anything.", schema={}).tokens)), dict)


def test_a_recursive_schema_ends() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    json.dumps(schemas.fill(node, "x"))


def test_choices_differ_and_the_first_is_the_plain_answer() -> None:
    texts = ["".join(reply("hi", choice=choice).tokens) for choice in range(3)]
    assert len(set(texts)) == 3
    assert texts[0] == "".join(reply("hi").tokens)
    counted = ["".join(reply("[[demo tokens=20]]", choice=choice).tokens) for choice in range(2)]
    assert counted[0] != counted[1]


@given(token=st.text(max_size=5), index=st.integers(0, 99), count=st.integers(1, 5))
def test_log_probabilities_are_plausible(token: str, index: int, count: int) -> None:
    tops = demo.alternatives(token, index, count)
    assert tops[0] == (token, demo.logprob(token, index))
    assert all(first[1] > second[1] for first, second in itertools.pairwise(tops))
    assert all(-10 < logprob < 0 for _, logprob in tops)


# --- in a prompt -------------------------------------------------------------------------------------------

FUNCTION = FunctionTool(
    name="magic_function", description=Content("Magic."), parameters=Content(json.dumps(properties(input=INTEGER)))
)
QUESTION = Message(role=Role.USER, content=Content("What is magic_function(3)?"))


def prompted(template: Template, messages: tuple[Message, ...], **asked: Any) -> Any:
    generation = Generation.model_validate({"tools": (FUNCTION,)} | asked)
    begins = opening(generation, marked=template is Template.CHATML)
    return demo.parse_prompt(render_prompt(template, messages, "", generation, begins))


@pytest.mark.parametrize("template", list(Template))
def test_tools_are_found_in_a_prompt_and_called_in_its_form(template: Template) -> None:
    text = "".join(demo.plan_answer(prompted(template, (QUESTION,)), 1_000).tokens)
    assert text == tools.Call("magic_function", '{"input": 3}').written(template.value)


@pytest.mark.parametrize("template", list(Template))
@pytest.mark.parametrize("choice", [ToolChoice(mode="required"), ToolChoice(function="magic_function")])
def test_a_call_that_was_begun_is_completed(template: Template, choice: ToolChoice) -> None:
    hello = Message(role=Role.USER, content=Content("Hello 5!"))
    conversation = prompted(template, (hello,), tool_choice=choice)
    text = conversation.prefix + "".join(demo.plan_answer(conversation, 1_000).tokens)
    assert text == tools.Call("magic_function", '{"input": 5}').written(template.value)


@pytest.mark.parametrize("template", list(Template))
def test_calls_of_the_past_are_told_without_markup(template: Template) -> None:
    call = ToolCall(id="1", name="magic_function", arguments=Content('{"input": 3}'))
    messages = (
        QUESTION,
        Message(role=Role.ASSISTANT, content=Content(""), tool_calls=(call,)),
        Message(role=Role.TOOL, content=Content("5"), tool_call_id="1"),
    )
    conversation = prompted(template, messages)
    assert conversation.messages[1:] == (
        ("user", "What is magic_function(3)?"),
        ("assistant", "(called magic_function)"),
        ("tool", "5"),
    )
    text = "".join(demo.plan_answer(conversation, 1_000).tokens)
    assert 'The tool answered: "5"' in text
    assert "tool_call" not in text


def test_the_schema_of_an_answer_beside_tools_is_found() -> None:
    form = ResponseFormat(kind="json_schema", json_schema=Content(json.dumps(properties(x=INTEGER))))
    hello = Message(role=Role.USER, content=Content("Hello 5!"))
    plan = demo.plan_answer(prompted(Template.CHATML, (hello,), response_format=form), 1_000)
    assert json.loads("".join(plan.tokens)) == {"x": 5}
