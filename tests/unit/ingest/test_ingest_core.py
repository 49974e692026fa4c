"""The request body, judged: every parameter by name, every error in OpenAI's shape, no value repeated."""

import json
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

from producers.chat_completions.parameters import HARMLESS_VALUES
from producers.chat_completions.request import ChatRequest, parse_request, turn_request
from producers.http.callers import authenticate
from producers.http.refused import RequestRefused
from producers.ingest.core import Arrival, IngestSettings, Submission, accept
from schemas import ids
from schemas.accounts import ApiKeyCredential
from schemas.errors import Refusal
from schemas.messages import Role
from schemas.models import Catalogue
from schemas.ports import AnswerForm
from tests.unit.ingest.edge_world import KEY, PEPPER

SECRET = "the-user-wrote-this"  # noqa: S105
CREDENTIAL = ApiKeyCredential(key_hash="0" * 64)
NOW_MS = 1_700_000_000_000
ARRIVAL = Arrival(
    now_ms=NOW_MS,
    turn_id=ids.new_turn_id(NOW_MS, 3, bytes(8)),
    conversation_id=ids.new_conversation_id(NOW_MS, bytes(10)),
    tokens_from=42,
)
CONVERSATION = ids.new_conversation_id(1, bytes(10))


def body(**fields: Any) -> bytes:
    whole = {"model": "turnstream-fast", "messages": [{"role": "user", "content": SECRET}], **fields}
    return json.dumps(whole).encode()


def submit(settings: IngestSettings | None = None, **fields: Any) -> Submission:
    settings = settings or IngestSettings()
    catalogue = Catalogue.of(settings.models)
    return accept(turn_request(parse_request(body(**fields))), CREDENTIAL, ARRIVAL, settings, catalogue)


def refusal_of(settings: IngestSettings | None = None, **fields: Any) -> Refusal:
    with pytest.raises(RequestRefused) as caught:
        submit(settings, **fields)
    assert SECRET not in caught.value.refusal.model_dump_json()
    assert SECRET not in str(caught.value)
    return caught.value.refusal


def code_and_param(refusal: Refusal) -> tuple[str | None, str | None]:
    return refusal.error.code, refusal.error.param


def test_a_stateless_turn() -> None:
    submission = submit(temperature=0.5, max_tokens=10, stop="END", seed=7, user="u1")
    turn = submission.event.turn
    assert (turn.stored, turn.starts_conversation) == (False, True)
    assert turn.conversation_id == ids.new_conversation_id(ARRIVAL.now_ms, bytes(10))
    assert (ids.turn_partition(turn.turn_id), ids.turn_time_ms(turn.turn_id)) == (3, ARRIVAL.now_ms)
    assert (turn.tokens_from, turn.max_tokens, turn.end_user) == (42, 10, "u1")
    assert (turn.sampling.temperature, turn.sampling.stop, turn.sampling.seed) == (0.5, ("END",), 7)
    assert turn.deadline_ms == ARRIVAL.now_ms + 600_000
    assert submission.event.input[0].content.text == SECRET
    assert submission.form == AnswerForm(stream=False)


def test_store_starts_a_conversation_and_an_id_continues_it() -> None:
    started, continued = submit(store=True).event.turn, submit(conversation_id=CONVERSATION).event.turn
    assert (started.stored, started.starts_conversation) == (True, True)
    assert (continued.stored, continued.starts_conversation) == (True, False)
    assert continued.conversation_id == CONVERSATION


def test_a_malformed_conversation_id_is_a_conversation_that_is_not_there() -> None:
    refusal = refusal_of(conversation_id=SECRET)
    assert (refusal.status, *code_and_param(refusal)) == (404, "conversation_not_found", "conversation_id")


def test_a_conversation_cannot_be_continued_unstored() -> None:
    assert code_and_param(refusal_of(conversation_id=CONVERSATION, store=False)) == ("invalid_value", "store")


def test_text_parts_are_paragraphs() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    submission = submit(messages=[{"role": "user", "content": parts}])
    assert submission.event.input[0].content.text == "one\ntwo"


def test_an_assistant_message_may_come_back_as_the_sdk_gave_it() -> None:
    echoed: dict[str, Any] = {
        "role": "assistant",
        "content": "Hi",
        "refusal": None,
        "annotations": [],
        "tool_calls": None,
        "audio": None,
    }
    submission = submit(messages=[echoed, {"role": "user", "content": "x"}])
    assert [message.role for message in submission.event.input] == [Role.ASSISTANT, Role.USER]


def test_every_parameter_of_openai_is_either_supported_or_refused_by_name() -> None:
    known = set(get_type_hints(CompletionCreateParamsNonStreaming))
    supported = set(ChatRequest.model_fields) - {"conversation_id", "parent_id"}
    assert known == supported | set(HARMLESS_VALUES)


@pytest.mark.parametrize("name", sorted(HARMLESS_VALUES))
def test_an_unsupported_parameter_is_refused_unless_it_means_nothing(name: str) -> None:
    meant: dict[str, Any] = {name: {"x": SECRET}}
    assert code_and_param(refusal_of(**meant)) == ("unsupported_parameter", name)
    for harmless in HARMLESS_VALUES[name]:
        submit(**{name: harmless})


def test_a_value_that_only_equals_the_harmless_one_is_refused() -> None:
    assert code_and_param(refusal_of(n=True)) == ("invalid_type", "n")
    assert code_and_param(refusal_of(logprobs=0)) == ("invalid_type", "logprobs")


def test_an_unknown_parameter_is_named() -> None:
    refusal = refusal_of(frobnicate=SECRET)
    assert code_and_param(refusal) == ("unknown_parameter", "frobnicate")
    assert refusal.error.message == "Unrecognized request argument supplied: frobnicate"


def test_a_hostile_parameter_name_is_cut() -> None:
    hostile: dict[str, Any] = {"a\n" * 1000: 1}
    refusal = refusal_of(**hostile)
    assert len(refusal.error.message) < 150
    assert "\n" not in refusal.error.message


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content"),
        ({"messages": [{"role": SECRET, "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "function", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}]}, "missing_required_parameter", "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "invalid_value", "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]},
            "invalid_type",
            "messages[0].content[0].text",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": SECRET}]}]},
            "invalid_type",
            "messages[0].content[0]",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x", "tool_calls": [SECRET]}]},
            "invalid_type",
            "messages[0].tool_calls[0]",
        ),
        ({"messages": [{"role": "user", "content": "x", "shout": 1}]}, "unknown_parameter", "messages[0].shout"),
        ({"temperature": 2.1}, "invalid_value", "temperature"),
        ({"temperature": "0.5"}, "invalid_type", "temperature"),
        ({"top_p": 0}, "invalid_value", "top_p"),
        ({"stop": ["a"] * 5}, "invalid_value", "stop"),
        ({"stop": ["a", 7]}, "invalid_type", "stop[1]"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "invalid_value", "max_completion_tokens"),
        ({"max_completion_tokens": 1_000_000}, "invalid_value", "max_completion_tokens"),
        ({"seed": 2**63}, "invalid_value", "seed"),
        ({"stream": 1}, "invalid_type", "stream"),
        ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
        ({"stream": True, "stream_options": {"x": 1}}, "unknown_parameter", "stream_options.x"),
        ({"user": "u" * 257}, "invalid_value", "user"),
    ],
)
def test_a_bad_value_is_told_by_its_place(fields: dict[str, Any], code: str, param: str) -> None:
    refusal = refusal_of(**fields)
    assert (refusal.status, *code_and_param(refusal)) == (400, code, param)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'{"model": NaN', b'{"a": "\\ud800"}'])
def test_malformed_json(raw: bytes) -> None:
    with pytest.raises(RequestRefused) as caught:
        parse_request(raw)
    assert caught.value.refusal.status == 400
    assert caught.value.refusal.error.code == "invalid_json"


@pytest.mark.parametrize("raw", [b"[]", b"7", b"null", b'"x"'])
def test_a_body_that_is_no_object(raw: bytes) -> None:
    with pytest.raises(RequestRefused) as caught:
        parse_request(raw)
    assert (caught.value.refusal.error.code, caught.value.refusal.error.param) == ("invalid_type", None)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(raw: bytes) -> None:
    with pytest.raises(RequestRefused):
        parse_request(raw)


def test_stored_turns_hold_fewer_messages_than_stateless_ones() -> None:
    many = [{"role": "user", "content": "x"}] * 256
    assert len(submit(messages=many).event.input) == 256
    assert code_and_param(refusal_of(messages=many, store=True)) == ("invalid_value", "messages")
    few = IngestSettings(messages_max=1)
    assert code_and_param(refusal_of(few, messages=many[:2])) == ("invalid_value", "messages")


def test_an_unknown_model_is_404() -> None:
    refusal = refusal_of(model="gpt-4")
    assert (refusal.status, *code_and_param(refusal)) == (404, "model_not_found", "model")


def test_authentication_asks_for_one_well_formed_key() -> None:
    assert KEY.text not in repr(authenticate([f"Bearer {KEY.text}"], PEPPER, lambda _: None))
    for headers in ([], ["Bearer nonsense"], [f"Basic {KEY.text}"], [f"Bearer {KEY.text}"] * 2):
        with pytest.raises(RequestRefused) as caught:
            authenticate(headers, PEPPER, lambda _: None)
        assert caught.value.refusal.status == 401
        assert caught.value.refusal.error.code == "invalid_api_key"
