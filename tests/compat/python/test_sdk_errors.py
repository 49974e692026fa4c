"""Errors raise the classes that applications catch, with OpenAI's codes, and only what may heal is tried again."""

from typing import Any

import openai
import pytest
from openai import OpenAI

MODEL = "turnstream-fast"
HELLO: Any = [{"role": "user", "content": "Hello"}]


def test_a_wrong_key() -> None:
    with OpenAI(api_key="sk-wrong") as client, pytest.raises(openai.AuthenticationError) as raised:
        client.chat.completions.create(model=MODEL, messages=HELLO)
    assert raised.value.code == "invalid_api_key"
    assert raised.value.request_id


def test_an_unknown_model(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="gpt-nobody", messages=HELLO)
    assert raised.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"n": 0}, "n"),
        ({"messages": []}, "messages"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"response_format": {"type": "poem"}}, "response_format"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_parameter_is_named(client: OpenAI, arguments: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**{"model": MODEL, "messages": HELLO, **arguments})
    assert (raised.value.param or "").startswith(param)
    assert raised.value.type == "invalid_request_error"


def test_a_parameter_that_nobody_knows(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=MODEL, messages=HELLO, extra_body={"speling": 1})
    assert (raised.value.code, raised.value.param) == ("unknown_parameter", "speling")


def test_too_long_a_context(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 40_000}])
    assert raised.value.code == "context_length_exceeded"


BROKEN: Any = [{"role": "user", "content": "[[demo tokens=20 error=invalid error_after=5]]"}]


def test_a_failure_of_the_model_is_an_error(client: OpenAI) -> None:
    with pytest.raises(openai.InternalServerError):
        client.with_options(max_retries=0).chat.completions.create(model=MODEL, messages=BROKEN)


def test_a_failure_in_the_middle_of_a_stream_is_an_error(client: OpenAI) -> None:
    stream = client.chat.completions.create(model=MODEL, messages=BROKEN, stream=True)
    with pytest.raises(openai.APIError):
        list(stream)


def test_an_unknown_route(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.get("/nowhere", cast_to=object)
