"""The Responses API through OpenAI's SDK for Python: whole, streamed, in the background, resumed."""

import json
import time
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import Response
from pydantic import BaseModel

MODEL = "turnstream-fast"
SLOW = "[[demo tokens=40 gap_ms=20]]"
POLL_SECONDS = 0.05
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city now.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
ENDS = {"completed", "failed", "cancelled", "incomplete"}


class Weather(BaseModel):
    city: str
    degrees: int


def ended(client: OpenAI, response: Response) -> Response:
    """Poll as OpenAI's guide on background responses does; the test's own time limit bounds it."""
    while response.status in {"queued", "in_progress"}:
        time.sleep(POLL_SECONDS)
        response = client.responses.retrieve(response.id)
    return response


def test_a_whole_response(client: OpenAI) -> None:
    response = client.responses.create(
        model=MODEL, instructions="Be brief.", input="Hello", metadata={"topic": "demo"}, temperature=0.5
    )
    assert response.status == "completed"
    assert response.output_text
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert response.metadata == {"topic": "demo"}
    again = client.responses.retrieve(response.id)
    assert again.output_text == response.output_text
    assert again.usage == response.usage


def test_items_as_input(client: OpenAI) -> None:
    response = client.responses.create(
        model=MODEL,
        input=[
            {"role": "user", "content": "My name is Ada."},
            {"role": "assistant", "content": "Hello Ada."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What is my name?"}]},
        ],
    )
    assert "Ada" in response.output_text
    items = list(client.responses.input_items.list(response.id, order="asc"))
    assert [item.type for item in items] == ["message", "message", "message"]


def test_a_response_continues_another(client: OpenAI) -> None:
    first = client.responses.create(model=MODEL, input="My name is Ada.")
    second = client.responses.create(model=MODEL, input="What is my name?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert "Ada" in second.output_text


def test_a_streamed_response(client: OpenAI) -> None:
    events = list(client.responses.create(model=MODEL, input="Hello", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    last = events[-1]
    assert last.type == "response.completed"
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert last.response.output_text == text


def test_the_stream_helper(client: OpenAI) -> None:
    with client.responses.stream(model=MODEL, input="Hello") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == text


def test_a_background_response_is_polled(client: OpenAI) -> None:
    response = client.responses.create(model=MODEL, input=SLOW, background=True)
    assert response.status in {"queued", "in_progress"}
    done = ended(client, response)
    assert done.status == "completed"
    assert done.output_text


@pytest.mark.parametrize("background", [False, True])
def test_a_stream_is_resumed_after_a_place(client: OpenAI, *, background: bool) -> None:
    seen = []
    with client.responses.create(model=MODEL, input=SLOW, background=background, stream=True) as stream:
        for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
    created = seen[0]
    assert created.type == "response.created"
    place = seen[-1].sequence_number
    rest = list(client.responses.retrieve(created.response.id, stream=True, starting_after=place))
    assert [event.sequence_number for event in rest] == list(range(place + 1, place + 1 + len(rest)))
    assert rest[-1].type == "response.completed"


def test_an_ended_response_is_replayed_whole(client: OpenAI) -> None:
    first = list(client.responses.create(model=MODEL, input="Hello", stream=True))
    created = first[0]
    assert created.type == "response.created"
    replayed = list(client.responses.retrieve(created.response.id, stream=True))
    text = "".join(event.delta for event in first if event.type == "response.output_text.delta")
    assert "".join(event.delta for event in replayed if event.type == "response.output_text.delta") == text
    assert [event.sequence_number for event in replayed] == list(range(len(replayed)))


def test_the_stream_helper_resumes(client: OpenAI) -> None:
    response = client.responses.create(model=MODEL, input=SLOW, background=True)
    with client.responses.stream(response_id=response.id) as stream:
        numbers = [event.sequence_number for event in stream]
        final = stream.get_final_response()
    assert numbers == list(range(len(numbers)))
    assert final.output_text
    with client.responses.stream(response_id=response.id, starting_after=5) as stream:
        assert [event.sequence_number for event in stream] == numbers[6:]


def test_a_background_response_is_cancelled(client: OpenAI) -> None:
    response = client.responses.create(model=MODEL, input="[[demo tokens=2000 gap_ms=20]]", background=True)
    assert client.responses.cancel(response.id).status == "cancelled"
    assert client.responses.retrieve(response.id).status == "cancelled"


def test_a_response_is_deleted(client: OpenAI) -> None:
    response = client.responses.create(model=MODEL, input="Hello")
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_what_is_not_stored_is_not_found(client: OpenAI) -> None:
    response = client.responses.create(model=MODEL, input="Hello", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_a_loop_of_question_call_result_and_answer(client: OpenAI) -> None:
    first = client.responses.create(model=MODEL, input="What is the weather in Rome? Use the tool.", tools=[WEATHER])
    calls = [item for item in first.output if item.type == "function_call"]
    assert len(calls) == 1
    assert "city" in json.loads(calls[0].arguments)
    second = client.responses.create(
        model=MODEL,
        previous_response_id=first.id,
        tools=[WEATHER],
        input=[{"type": "function_call_output", "call_id": calls[0].call_id, "output": "Sunny, 31 degrees"}],
    )
    assert "31" in second.output_text


def test_a_streamed_call(client: OpenAI) -> None:
    events = list(
        client.responses.create(
            model=MODEL, input="The weather in Rome", tools=[WEATHER], tool_choice="required", stream=True
        )
    )
    done = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert len(done) == 1
    parts = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert "".join(parts) == done[0].arguments


def test_a_response_parsed_into_a_model(client: OpenAI) -> None:
    response = client.responses.parse(model=MODEL, input="The weather in Rome, 31 degrees", text_format=Weather)
    assert isinstance(response.output_parsed, Weather)


def test_a_response_that_was_cut_short(client: OpenAI) -> None:
    response = client.responses.create(model=MODEL, input="[[demo tokens=100]]", max_output_tokens=16)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


def test_a_wrong_parameter_is_named(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model=MODEL, input="Hello", temperature=3)
    assert raised.value.param == "temperature"
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model=MODEL, input="Hello", background=True, store=False)


def test_the_end_of_every_response_is_one_of_four(client: OpenAI) -> None:
    response = client.responses.create(
        model=MODEL, input="[[demo tokens=5 error=invalid error_after=2]]", background=True
    )
    done = ended(client, response)
    assert done.status in ENDS
    assert done.status == "failed"
    assert done.error is not None
