"""Answers of several choices, tool calls and log probabilities: how they grow, are cut, judged and taken up again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.inference.answer import (
    Answer,
    Call,
    Choice,
    answered_by,
    can_go_on,
    fold,
    fold_all,
    handed_on,
    with_choice,
)
from consumers.inference.core import deltas, fence, finish_reasons, finished, handed_over, next_route
from consumers.inference.pieces import Piece, grow, judged, unsent, verdict_on
from schemas.content import Content
from schemas.events import FinishReason, InferenceRequested, Route, Usage
from schemas.generation import Generation, ResponseFormat, TokenLogprob, ToolCallDelta
from tests.unit.inference.inference_fakes import TURN_ID, FakePolicy, make_request

FAST, OTHER = Route(model="demo", pool="fast"), Route(model="bigger", pool="capable")


def asking(**generation: object) -> InferenceRequested:
    request = make_request()
    turn = request.turn.model_copy(update={"generation": Generation.model_validate(generation)})
    return request.model_copy(update={"turn": turn})


def owned() -> Answer:
    return fold(Answer(), fence(TURN_ID, 1, "me", FAST), 0)


def said(*choices: Choice) -> Answer:
    """An answer that has ``choices`` on the log."""
    answer = owned()
    while pieces := unsent(answer, choices, 1_000):
        folded = fold_all(answer, deltas(answer, TURN_ID, pieces), 0)
        # An owner that posted them counts without a look at each.
        assert grow(answer, pieces, 0) == folded
        answer = folded
    return answer


def logprob(token: str) -> TokenLogprob:
    return TokenLogprob(token=Content(token), logprob=-0.5)


calls = st.lists(st.builds(Call, id=st.just("c"), name=st.just("f"), arguments=st.text("ab", max_size=9)), max_size=3)
choices = st.builds(
    lambda text, calls: Choice(text=text, calls=tuple(calls), tokens=len(text)), st.text("xy", max_size=9), calls
)


@given(whole=st.lists(choices, max_size=4), chars_max=st.integers(1, 5))
def test_whatever_was_generated_reaches_the_log_in_bounded_pieces(whole: list[Choice], chars_max: int) -> None:
    answer = owned()
    while pieces := unsent(answer, whole, chars_max):
        for delta in deltas(answer, TURN_ID, pieces):
            assert len(delta.content.text) + sum(len(c.arguments.text) for c in delta.tool_calls if c.arguments) <= (
                chars_max
            )
            grown = fold(answer, delta, 0)
            assert grown is not answer
            answer = grown
        assert all(answer.choice(index).begins(choice) for index, choice in enumerate(whole))
    for index, choice in enumerate(whole):
        assert (answer.choice(index).text, answer.choice(index).calls) == (choice.text, choice.calls)


@given(choice=choices, text=st.text("xy", max_size=3), arguments=st.text("ab", max_size=3))
def test_a_choice_begins_what_it_grows_into(choice: Choice, text: str, arguments: str) -> None:
    grown = choice.add(text, 1, (ToolCallDelta(index=0, id="c", name="f", arguments=Content(arguments)),))
    assert choice.begins(grown)
    assert choice.shows_less(grown) == bool(text or arguments or not choice.calls)
    assert not grown.begins(Choice(text="z"))


def test_another_call_is_another_answer() -> None:
    mine = Choice(calls=(Call("a", "f", "{"),))
    assert not mine.begins(Choice(calls=(Call("b", "f", "{}"),)))
    assert not mine.begins(Choice())
    assert mine.begins(Choice(calls=(Call("a", "f", "{}"), Call("b", "g"))))


def test_log_probabilities_go_with_the_text_that_they_spell() -> None:
    whole = Choice().add("hello", 2, (), (logprob("hel"), logprob("lo")))
    answer = owned()
    sent = []
    while pieces := unsent(answer, (whole,), 4):
        for delta in deltas(answer, TURN_ID, pieces):
            answer = fold(answer, delta, 0)
            sent.append((delta.content.text, [one.token.text for one in delta.logprobs]))
    assert sent == [("hell", ["hel"]), ("o", ["lo"])]


def test_choices_share_one_sequence_and_end_with_a_reason_each() -> None:
    answer = said(Choice("a", tokens=1), Choice("b", calls=(Call("i", "f", "{}"),), tokens=3))
    assert answer.state.next_seq == 2
    assert answer.tokens == 4
    reasons = finish_reasons({0: "length", 1: "stop"}, answer.choices, 2)
    terminal = finished(answer, TURN_ID, reasons, Usage(prompt_tokens=1, completion_tokens=4))
    assert terminal.finish_reason is FinishReason.LENGTH
    assert terminal.choice_reasons == (FinishReason.LENGTH, FinishReason.TOOL_CALLS)
    assert finished(answer, TURN_ID, reasons[:1], terminal.usage).choice_reasons == ()


def test_the_arguments_of_a_call_are_judged_as_they_are_read() -> None:
    before = said(Choice(calls=(Call("i", "f", '{"q": "how to b'),)))
    piece = Piece(0, "", 1, (ToolCallDelta(index=0, arguments=Content("\\u0075ild\\n it")),))
    assert judged(before, piece, 5) == ((" to build\n it", ""),)
    assert judged(before, Piece(0, "plain \\n", 1), 5) == (("plain \\n", ""),)
    assert judged(said(Choice("so far")), Piece(0, "on", 1), 5) == (("on", "o far"),)
    assert verdict_on(FakePolicy("build"), before, (piece,), 5) is not None
    assert verdict_on(FakePolicy("destroy"), before, (piece,), 5) is None


@pytest.mark.parametrize("escape", ["\\ud83d", "\\ud83d\\ude00", "\\\\", '\\"'])
def test_any_escape_can_be_judged(escape: str) -> None:
    [(text, _)] = judged(Answer(), Piece(0, "", 1, (ToolCallDelta(index=0, arguments=Content(escape)),)), 5)
    assert text.encode()


TEXT = Choice("so far", tokens=2)
SPELLED = Choice().add("so far", 2, (), (logprob("so"), logprob(" far")))


@pytest.mark.parametrize(
    ("generation", "choice", "possible"),
    [
        ({}, TEXT, True),
        ({"n": 2}, TEXT, False),
        ({"response_format": ResponseFormat(kind="json_object")}, TEXT, False),
        ({"response_format": ResponseFormat(kind="text")}, TEXT, True),
        ({"tools": ({"name": "f"},)}, TEXT, True),
        ({"tools": ({"name": "f"},)}, Choice("so far", calls=(Call("i", "f", "{"),)), False),
        ({"logprobs": True}, SPELLED, True),
        ({"logprobs": True}, TEXT, False),
    ],
)
def test_an_answer_goes_on_from_its_text_or_not_at_all(
    generation: dict[str, object], choice: Choice, *, possible: bool
) -> None:
    request = asking(**generation)
    assert can_go_on(request, said(choice)) is possible
    assert can_go_on(request, owned())


def test_a_turn_goes_to_its_next_fallback_whose_pool_exists() -> None:
    request = make_request().model_copy(update={"fallbacks": (Route(model="x", pool="gone"), OTHER, FAST)})
    assert next_route(request) == OTHER
    over = handed_over(request, OTHER)
    assert (over.pool, over.served_model, over.fallbacks) == ("capable", "bigger", (FAST,))
    assert next_route(make_request()) is None


def test_the_last_owner_gave_the_answer_and_a_fallback_that_began_keeps_the_turn() -> None:
    request = make_request().model_copy(update={"fallbacks": (OTHER,)})
    answer = owned()
    assert not handed_on(request, answer)
    taken = fold(answer, fence(TURN_ID, 2, "they", OTHER), 0)
    assert handed_on(request, taken)
    assert answered_by(request, taken) == OTHER
    assert answered_by(request, Answer()) == FAST


def test_choices_may_come_in_any_order() -> None:
    assert with_choice((), 2, TEXT) == (Choice(), Choice(), TEXT)
