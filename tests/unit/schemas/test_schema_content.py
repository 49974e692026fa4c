"""Content is on the wire and nowhere else."""

import logging
import traceback

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas import serde
from schemas.content import Content
from schemas.messages import Message, Role
from schemas.tokens import Delta

PRIVATE = "my-private-words"
CONTENT = Content(PRIVATE)
DELTA = Delta(turn_id="0" * 26, attempt=1, owner="w", seq=0, content=CONTENT, tokens=1)
MESSAGE = Message(role=Role.USER, content=CONTENT)


@pytest.mark.parametrize(
    "shown",
    [
        repr(CONTENT),
        str(CONTENT),
        f"{CONTENT}",
        f"{CONTENT!s:>40}",
        "%s" % CONTENT,  # noqa: UP031  # each way of formatting is a way to leak
        repr(MESSAGE),
        str(MESSAGE),
        repr(DELTA),
        str(DELTA),
        repr([MESSAGE]),
        repr(DELTA.model_dump(exclude={"content"})),
    ],
)
def test_a_shown_content_says_only_how_long_it_is(shown: str) -> None:
    assert PRIVATE not in shown


def test_its_length_helps_an_operator() -> None:
    assert repr(CONTENT) == f"Content({len(PRIVATE)} chars)"


def test_it_stays_out_of_log_lines_and_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("content").warning("event %s of %s", DELTA, MESSAGE)
    with pytest.raises(KeyError) as raised:
        raise KeyError(DELTA)
    assert "Content(" in caplog.text
    assert PRIVATE not in caplog.text
    assert PRIVATE not in "".join(traceback.format_exception(raised.value))


def test_the_wire_has_the_text() -> None:
    assert PRIVATE.encode() in serde.encode(DELTA)
    assert Delta.model_validate_json(serde.encode(DELTA)) == DELTA


def test_a_model_takes_text_or_content() -> None:
    adapter = TypeAdapter(Content)
    assert adapter.validate_python(PRIVATE) == adapter.validate_python(CONTENT) == CONTENT
    assert adapter.validate_json(f'"{PRIVATE}"') == CONTENT


@pytest.mark.parametrize("value", [1, None, {"text": "x"}, ["x"]])
def test_other_values_are_no_content(value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Content).validate_python(value)


def test_equal_texts_are_equal_and_hash_alike() -> None:
    assert Content("a") == Content("a") != Content("b")
    assert len({Content("a"), Content("a")}) == 1
