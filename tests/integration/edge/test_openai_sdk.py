"""The unmodified openai-python client against the edge on a real socket; only the log is in memory."""

import asyncio

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from consumers.sse.core import SseSettings
from producers.ingest.core import IngestSettings
from schemas.errors import ErrorBody, ErrorType, Refusal, server_error
from schemas.events import FinishReason
from schemas.tokens import Cancelled
from schemas.topics import TOKENS, TURNS_CANCELLED
from tests.support.ping_counter import PingCounter
from tests.unit.ingest.edge_world import OTHER_KEY, SSE, EdgeWorld, Stages, answer_hello, running_edge, until

MODEL = "turnstream-fast"
ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello?"}]
TOO_MANY = Refusal(
    status=429,
    error=ErrorBody(message="Rate limit reached.", type=ErrorType.RATE_LIMIT, code="rate_limit_exceeded"),
    retry_after_s=3,
)


def nothing(_stages: Stages) -> None:
    """The stages behind the edge are silent."""


async def test_a_stream_ends_with_the_whole_text_and_one_finish_reason() -> None:
    async with running_edge() as edge, edge.client() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=ASK, stream=True)
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello!"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].id == f"chatcmpl-{edge.submitted[0].turn.turn_id}"


async def test_usage_comes_last_without_a_choice() -> None:
    async with running_edge() as edge, edge.client() as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        *others, last = [chunk async for chunk in stream]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 10
    assert all(chunk.usage is None and chunk.choices for chunk in others)


async def test_without_stream_the_answer_is_one_object_with_headers() -> None:
    async with running_edge() as edge, edge.client() as client:
        raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=ASK)
    completion = raw.parse()
    assert completion.object == "chat.completion"
    assert completion.choices[0].message.content == "Hello!"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == 7
    assert raw.headers["x-request-id"] == completion.id
    assert raw.headers["openai-version"] == "2020-10-01"
    assert raw.headers["openai-processing-ms"].isdigit()
    assert raw.headers["x-ratelimit-remaining-tokens"] == "9000"
    assert raw.headers["x-ratelimit-reset-tokens"] == "6m0s"
    assert "x-conversation-id" not in raw.headers


async def test_a_stored_turn_tells_its_conversation_everywhere() -> None:
    async with running_edge() as edge, edge.client() as client:
        raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=ASK, store=True)
        conversation_id = raw.headers["x-conversation-id"]
        stream = await client.chat.completions.create(
            model=MODEL, messages=ASK, stream=True, extra_body={"conversation_id": conversation_id}
        )
        chunks = [chunk async for chunk in stream]
    assert raw.parse().model_dump()["conversation_id"] == conversation_id
    assert {chunk.model_dump()["conversation_id"] for chunk in chunks} == {conversation_id}
    first, second = (event.turn for event in edge.submitted)
    assert (first.starts_conversation, second.starts_conversation) == (True, False)
    assert first.stored
    assert second.stored


async def test_a_missing_and_a_wrong_key_are_401() -> None:
    async with running_edge() as edge:
        for key in ("sk-nonsense", "ts-"):
            async with edge.client(key) as client:
                with pytest.raises(openai.AuthenticationError) as caught:
                    await client.chat.completions.create(model=MODEL, messages=ASK)
            assert caught.value.code == "invalid_api_key"
    assert edge.submitted == []


async def test_an_unknown_model_is_404() -> None:
    async with running_edge() as edge, edge.client() as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="gpt-4", messages=ASK)
    assert caught.value.code == "model_not_found"


async def test_an_unsupported_parameter_is_400_by_name() -> None:
    async with running_edge() as edge, edge.client() as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model=MODEL, messages=ASK, modalities=["text", "audio"])
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "modalities")


@pytest.mark.parametrize("body_bytes_max", [1000, 2_000_000])
async def test_a_body_over_its_limit_or_that_of_a_record_is_413(body_bytes_max: int) -> None:
    settings = IngestSettings(body_bytes_max=body_bytes_max)
    async with running_edge(ingest=settings) as edge, edge.client() as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x" * 1_100_000}])
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refused_turn_has_its_true_status(stream: bool) -> None:  # noqa: FBT001
    async with running_edge(lambda stages: stages.refuse(TOO_MANY)) as edge, edge.client() as client:
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model=MODEL, messages=ASK, stream=stream)
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.response.headers["retry-after"] == "3"
    assert caught.value.response.headers["x-ratelimit-limit-requests"] == "60"


async def test_an_unknown_outcome_is_503_with_a_time_to_retry() -> None:
    async with running_edge() as edge, edge.client() as client:
        edge.log.fail_next_append(landing=False)
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model=MODEL, messages=ASK)
    assert (caught.value.status_code, caught.value.code) == (503, "outcome_unknown")
    assert int(caught.value.response.headers["retry-after"]) >= 1


async def test_no_decision_in_time_is_504_and_cancels_the_turn() -> None:
    settings = SSE.model_copy(update={"head_seconds_max": 0.05})
    async with running_edge(nothing, sse=settings) as edge, edge.client() as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model=MODEL, messages=ASK, stream=True)
        assert (caught.value.status_code, caught.value.code) == (504, "head_timeout")
        assert caught.value.response.headers["x-request-id"].startswith("chatcmpl-")
        await until(lambda: bool(edge.log.records(TURNS_CANCELLED.name)))


async def test_a_failure_in_the_middle_of_a_stream_raises() -> None:
    def script(stages: Stages) -> None:
        stages.clear()
        stages.say("Hel")
        stages.fail(server_error("The GPU caught fire.", "generation_failed"))

    async with running_edge(script) as edge, edge.client() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=ASK, stream=True)
        seen: list[str] = []
        with pytest.raises(openai.APIError) as caught:
            await _read_into(seen, stream)
        assert ("".join(seen), caught.value.code) == ("Hel", "generation_failed")
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model=MODEL, messages=ASK)


async def _read_into(seen: list[str], stream: openai.AsyncStream[ChatCompletionChunk]) -> None:
    async for chunk in stream:
        seen += [chunk.choices[0].delta.content or ""]


async def test_heartbeats_do_not_disturb_the_sdk() -> None:
    settings = SSE.model_copy(update={"heartbeat_seconds": 0.02})
    wire = PingCounter()
    async with running_edge(Stages.clear, sse=settings) as edge:
        http_client = httpx2.AsyncClient(transport=wire)
        async with edge.client().with_options(http_client=http_client) as client:
            stream = await client.chat.completions.create(model=MODEL, messages=ASK, stream=True)
            seen: list[str] = []
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_read_into(seen, stream))
                await until(lambda: wire.pings >= 3)
                edge.stages[0].say("late")
                edge.stages[0].finish(FinishReason.LENGTH)
    assert "".join(seen) == "late"


async def cancel(edge: EdgeWorld, key: str, completion_id: str) -> dict[str, object]:
    async with edge.client(key) as client:
        return await client.post(f"/chat/completions/{completion_id}/cancel", cast_to=dict[str, object])


async def test_cancel_ends_the_stream_for_its_owner_alone() -> None:
    def script(stages: Stages) -> None:
        stages.clear()
        stages.say("Hel")

    async with running_edge(script) as edge, edge.client() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=ASK, stream=True)
        first = await anext(stream)
        with pytest.raises(openai.NotFoundError):
            await cancel(edge, OTHER_KEY.text, first.id)
        answer = await cancel(edge, client.api_key, first.id)
        chunks = [chunk async for chunk in stream]
        again = await cancel(edge, client.api_key, first.id)
    assert answer == {"id": first.id, "object": "chat.completion.cancelled", "cancelled": True}
    assert again == answer
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].model_dump()["cancelled"] == "client"
    assert len(edge.log.records(TURNS_CANCELLED.name)) == 1


async def test_a_finished_turn_cannot_be_cancelled_any_more() -> None:
    async with running_edge() as edge, edge.client() as client:
        completion = await client.chat.completions.create(model=MODEL, messages=ASK)
        answer = await cancel(edge, client.api_key, completion.id)
    assert answer["cancelled"] is False
    assert edge.log.records(TURNS_CANCELLED.name) == []


async def test_leaving_a_stateless_stream_cancels_its_turn_after_the_grace() -> None:
    settings = SSE.model_copy(update={"abandon_grace_seconds": 0.02})
    async with running_edge(Stages.clear, sse=settings) as edge, edge.client() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=ASK, stream=True)
        await anext(stream)
        await stream.close()
        await until(lambda: bool(edge.log.records(TURNS_CANCELLED.name)))
        turn_id = edge.submitted[0].turn.turn_id
        assert edge.turns.state(turn_id) is None or isinstance(_terminal(edge, turn_id), Cancelled)
        await until(lambda: edge.turns.state(turn_id) is None)
        assert edge.admission.open_turns == 0


def _terminal(edge: EdgeWorld, turn_id: str) -> object:
    state = edge.turns.state(turn_id)
    return state and state.terminal


async def test_leaving_a_stored_stream_leaves_its_turn_alone() -> None:
    settings = SSE.model_copy(update={"abandon_grace_seconds": 0})
    async with running_edge(Stages.clear, sse=settings) as edge, edge.client() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=ASK, stream=True, store=True)
        await anext(stream)
        await stream.close()
        await until(lambda: edge.admission.open_turns == 0)
        assert edge.turns.state(edge.submitted[0].turn.turn_id) is None
        written = [serde_type(record.value) for record in edge.log.records(TOKENS.name)]
    assert "cancelled" not in written


def serde_type(value: bytes) -> str:
    return value.split(b'"type":"', 1)[1].split(b'"', 1)[0].decode()


async def test_done_waits_for_persistence_but_not_for_ever() -> None:
    def never_persisted(stages: Stages) -> None:
        stages.clear()
        stages.say("x")
        stages.finish()

    settings = SSE.model_copy(update={"persisted_seconds_max": 0.1})
    async with running_edge(never_persisted, sse=settings) as edge, edge.client() as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model=MODEL, messages=ASK, store=True)
        assert (caught.value.status_code, caught.value.code) == (503, "answer_not_stored_yet")
        stream = await client.chat.completions.create(model=MODEL, messages=ASK, store=True, stream=True)
        with pytest.raises(openai.APIError, match="not stored"):
            [chunk async for chunk in stream]
        edge.script = answer_hello
        await client.chat.completions.create(model=MODEL, messages=ASK, store=True)


async def test_beyond_its_streams_the_edge_answers_503() -> None:
    async with running_edge(Stages.clear, ingest=IngestSettings(streams_open_max=1)) as edge, edge.client() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=ASK, stream=True)
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model=MODEL, messages=ASK)
        assert caught.value.status_code == 503
        assert int(caught.value.response.headers["retry-after"]) >= 1
        await stream.close()
        await until(lambda: edge.admission.open_turns == 0)
        edge.script = answer_hello
        await client.chat.completions.create(model=MODEL, messages=ASK)


async def test_a_drained_stream_ends_with_an_error() -> None:
    async with running_edge(Stages.clear) as edge, edge.client() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=ASK, stream=True)
        await anext(stream)
        edge.admission.close()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(edge.answers.drain(0.02))
            with pytest.raises(openai.APIError) as caught:
                [chunk async for chunk in stream]
        assert caught.value.code == "server_shutting_down"
        with pytest.raises(openai.InternalServerError) as refused:
            await client.chat.completions.create(model=MODEL, messages=ASK)
    assert refused.value.status_code == 503


async def test_models_are_listed_and_shown_to_known_keys() -> None:
    async with running_edge() as edge, edge.client() as client:
        listed = [model.id async for model in client.models.list()]
        shown = await client.models.retrieve("turnstream-capable")
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("gpt-4")
        edge.keys.keys.clear()
    assert listed == ["turnstream-fast", "turnstream-capable"]
    assert (shown.id, shown.object, shown.owned_by) == ("turnstream-capable", "model", "turnstream")
    assert edge.keys.calls == 1


async def test_a_reader_that_falls_behind_goes_on_from_the_log() -> None:
    settings = SseSettings(**{**SSE.model_dump(), "buffer_events_max": 2})

    def flood(stages: Stages) -> None:
        stages.clear()
        stages.say(*"flood")
        stages.finish()

    async with running_edge(flood, sse=settings) as edge, edge.client() as client:
        answer = await client.chat.completions.create(model=MODEL, messages=ASK)
    assert answer.choices[0].message.content == "flood"
    assert edge.metrics.counts["turnstream_streams_fell_behind_total", ()] == 1
