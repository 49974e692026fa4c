"""The chat client against responses as the edge writes them."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from turnstream.chat.api import AnswerCutError, ApiError, ChatApi, Ended, Item, Piece, Question, Started

CONVERSATION = "conv_01m7q5awx0000g40r40m30e209"
TURN = "chatcmpl-01m7q5ffcg002gg28a1c60t3gf"
HEADERS = {"content-type": "text/event-stream; charset=utf-8", "x-request-id": TURN, "x-conversation-id": CONVERSATION}

Handler = Callable[[httpx2.Request], httpx2.Response]


def api(handler: Handler) -> ChatApi:
    return ChatApi(httpx2.Client(base_url="http://edge.test/v1", transport=httpx2.MockTransport(handler)))


def chunk(text: str | None = None, finish_reason: str | None = None, **more: Any) -> str:
    delta = {} if text is None else {"content": text}
    document = {"id": TURN, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}], **more}
    return f"data: {json.dumps(document)}\n\n"


def stream(*frames: str) -> httpx2.Response:
    def pieces() -> Iterator[bytes]:
        # Cut anywhere, as a network does.
        raw = "".join(frames).encode()
        yield from (raw[start : start + 7] for start in range(0, len(raw), 7))

    return httpx2.Response(200, headers=HEADERS, content=pieces())


QUESTION = Question("hello", "turnstream-fast", None)
USAGE = f"data: {json.dumps({'choices': [], 'usage': {'completion_tokens': 3}})}\n\n"
DONE = "data: [DONE]\n\n"


def test_it_streams_pieces_and_skips_heartbeats() -> None:
    frames = (": ping\n\n", chunk(""), chunk("Grü"), ": ping\n\n", chunk("ße 🌍"), chunk(None, "stop"), USAGE, DONE)
    parts = list(api(lambda _request: stream(*frames)).ask(QUESTION))
    assert parts == [Started(TURN, CONVERSATION), Piece("Grü"), Piece("ße 🌍"), Ended("stop", 3)]


@pytest.mark.parametrize(
    ("conversation_id", "where"), [(None, {"store": True}), (CONVERSATION, {"conversation_id": CONVERSATION})]
)
def test_the_first_question_starts_a_stored_conversation(conversation_id: str | None, where: dict[str, Any]) -> None:
    sent: list[dict[str, Any]] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        sent.append(json.loads(request.content))
        return stream(DONE)

    list(api(handler).ask(Question("hello", "turnstream-fast", conversation_id)))
    assert sent == [
        {
            "model": "turnstream-fast",
            "messages": [{"role": "user", "content": "hello"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            **where,
        }
    ]


def test_a_cancelled_answer_says_so() -> None:
    parts = list(api(lambda _request: stream(chunk("a"), chunk(None, "stop", cancelled="client"), DONE)).ask(QUESTION))
    assert parts[-1] == Ended("cancelled", None)


def test_an_error_frame_is_an_error_after_the_text_before_it() -> None:
    error = {"error": {"message": "The model stopped.", "type": "server_error", "param": None, "code": "x"}}
    answer = api(lambda _request: stream(chunk("a"), f"data: {json.dumps(error)}\n\n")).ask(QUESTION)
    assert [next(answer), next(answer)] == [Started(TURN, CONVERSATION), Piece("a")]
    with pytest.raises(ApiError, match=r"The model stopped\.") as raised:
        next(answer)
    assert (raised.value.status, raised.value.code) == (None, "x")


def test_a_stream_without_its_end_is_cut() -> None:
    with pytest.raises(AnswerCutError):
        list(api(lambda _request: stream(chunk("a"), chunk(None, "stop"))).ask(QUESTION))


def test_a_refusal_has_its_status_message_and_wait() -> None:
    body = {"error": {"message": "Too fast.", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}}
    refused = httpx2.Response(429, headers={"retry-after": "7"}, json=body)
    with pytest.raises(ApiError) as raised:
        list(api(lambda _request: refused).ask(QUESTION))
    error = raised.value
    assert (error.status, error.message, error.code, error.retry_after_s) == (
        429,
        "Too fast.",
        "rate_limit_exceeded",
        "7",
    )


def test_an_answer_that_is_no_json_is_still_one_line() -> None:
    with pytest.raises(ApiError, match=r"The server answered 502\."):
        api(lambda _request: httpx2.Response(502, text="<html>bad gateway</html>")).cancel(TURN)


def test_cancel_tells_whether_it_stopped_the_turn() -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == f"/v1/chat/completions/{TURN}/cancel"
        return httpx2.Response(200, json={"id": TURN, "cancelled": False})

    assert api(handler).cancel(TURN) is False


def test_history_is_oldest_first() -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == f"/v1/conversations/{CONVERSATION}/items"
        assert request.url.params["limit"] == "2"
        texts = (("assistant", "output_text", "hi"), ("user", "input_text", "hello"))
        data = [{"role": role, "content": [{"type": kind, "text": text}]} for role, kind, text in texts]
        return httpx2.Response(200, json={"object": "list", "data": data})

    assert api(handler).history(CONVERSATION, 2) == [Item("user", "hello"), Item("assistant", "hi")]
