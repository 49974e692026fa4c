"""Chat completions through OpenAI's SDK for Python, as its documentation shows them."""

import json

import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

MODEL = "turnstream-fast"
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]


class Weather(BaseModel):
    city: str
    degrees: int
    sunny: bool


def test_a_whole_answer(client: OpenAI) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=HELLO)
    assert completion.object == "chat.completion"
    assert completion.choices[0].message.content
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_a_streamed_answer(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    whole = client.chat.completions.create(model=MODEL, messages=HELLO)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


def test_the_stream_helper(client: OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=HELLO) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content


async def test_the_asynchronous_client(async_client: AsyncOpenAI) -> None:
    stream = await async_client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    assert "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])


def test_a_system_prompt_and_a_history(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "My name is Ada."}], "name": "ada"},
            {"role": "assistant", "content": "Hello Ada."},
            {"role": "user", "content": "What is my name?"},
        ],
    )
    assert "Ada" in (completion.choices[0].message.content or "")


def test_sampling_parameters_are_taken(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        temperature=0.2,
        top_p=0.9,
        seed=7,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        user="somebody",
        service_tier="auto",
    )
    assert completion.choices[0].message.content


def test_the_length_is_limited(client: OpenAI) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=HELLO, max_completion_tokens=5)
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 5


def test_a_stop_word_ends_the_answer_unseen(client: OpenAI) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=HELLO, stop=["demonstration"])
    assert completion.choices[0].finish_reason == "stop"
    assert "demonstration" not in (completion.choices[0].message.content or "")


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices(client: OpenAI, *, stream: bool) -> None:
    if stream:
        chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, n=2, stream=True))
        indexes = {choice.index for chunk in chunks for choice in chunk.choices if choice.delta.content}
        ends = sorted(choice.index for chunk in chunks for choice in chunk.choices if choice.finish_reason)
        assert (indexes, ends) == ({0, 1}, [0, 1])
    else:
        completion = client.chat.completions.create(model=MODEL, messages=HELLO, n=2)
        assert [choice.index for choice in completion.choices] == [0, 1]
        assert all(choice.message.content for choice in completion.choices)


def test_log_probabilities(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL, messages=HELLO, logprobs=True, top_logprobs=2, max_completion_tokens=4
    )
    told = completion.choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert len(told.content) == 4
    # OpenAI's contract allows fewer candidates than asked for: Triton's engine tells the drawn token alone.
    assert all(token.logprob <= 0 and 1 <= len(token.top_logprobs) <= 2 for token in told.content)
    assert "".join(token.token for token in told.content) == completion.choices[0].message.content


def test_json_mode(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Answer in JSON: who are you?"}],
        response_format={"type": "json_object"},
    )
    assert isinstance(json.loads(completion.choices[0].message.content or ""), dict)


def test_an_answer_parsed_into_a_model(client: OpenAI) -> None:
    completion = client.chat.completions.parse(
        model=MODEL, messages=[{"role": "user", "content": "The weather in Rome, 31 degrees"}], response_format=Weather
    )
    assert isinstance(completion.choices[0].message.parsed, Weather)


def test_a_streamed_answer_parsed_into_a_model(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=[{"role": "user", "content": "The weather in Rome"}], response_format=Weather
    ) as stream:
        for _ in stream:
            pass
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Weather)


def test_raw_headers(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
    assert raw.request_id
    assert raw.headers["openai-version"]
    assert int(raw.headers["openai-processing-ms"]) >= 0
    for kind in ("requests", "tokens"):
        limit = int(raw.headers[f"x-ratelimit-limit-{kind}"])
        assert 0 <= int(raw.headers[f"x-ratelimit-remaining-{kind}"]) < limit
        assert raw.headers[f"x-ratelimit-reset-{kind}"][-1] in "smh"
    assert raw.parse().id


def test_a_raw_stream(client: OpenAI) -> None:
    with client.chat.completions.with_streaming_response.create(model=MODEL, messages=HELLO, stream=True) as response:
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"


def test_a_conversation_is_continued(client: OpenAI) -> None:
    first = client.chat.completions.create(model=MODEL, messages=HELLO, store=True)
    conversation = (first.model_extra or {})["conversation_id"]
    second = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "What did I say?"}],
        extra_body={"conversation_id": conversation},
    )
    assert "I remember this conversation" in (second.choices[0].message.content or "")
