"""A conversation at the terminal, with a scripted server."""

from collections.abc import Callable, Iterator, Sequence
from io import StringIO

import httpx2
import pytest
from rich.console import Console

from turnstream.chat.api import AnswerCutError, AnswerPart, ApiError, ChatApi, Ended, Item, Piece, Question, Started
from turnstream.chat.repl import Repl
from turnstream.chat.session import CONNECT_ATTEMPTS_MAX, ChatSession, Outcome

CONVERSATION = "conv_01m7q5awx0000g40r40m30e209"
TURN = "chatcmpl-01m7q5ffcg002gg28a1c60t3gf"

Script = Sequence[AnswerPart | BaseException]
ANSWER: Script = (Started(TURN, CONVERSATION), Piece("Hi "), Piece("[b]there[/b]"), Ended("stop", 2))


class ScriptedApi(ChatApi):
    """Plays one script per question, then the last one again."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.asked: list[Question] = []
        self.cancelled: list[str] = []
        self.items: Sequence[Item] = ()
        self.cancel_error: Exception | None = None

    def ask(self, question: Question) -> Iterator[AnswerPart]:
        self.asked.append(question)
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        for part in script:
            if isinstance(part, BaseException):
                raise part
            yield part

    def cancel(self, turn_id: str) -> bool:
        self.cancelled.append(turn_id)
        if self.cancel_error is not None:
            raise self.cancel_error
        return True

    def history(self, conversation_id: str, limit: int = 50) -> Sequence[Item]:
        assert conversation_id == CONVERSATION
        return self.items[:limit]


class Terminal:
    """A session with what it printed, and the waits that it made."""

    def __init__(self, *scripts: Script) -> None:
        self.api = ScriptedApi(*scripts)
        self.waits: list[float] = []
        self._answers, self._notes = StringIO(), StringIO()
        self.session = ChatSession(
            self.api,
            "turnstream-fast",
            answers=Console(file=self._answers, width=200),
            notes=Console(file=self._notes, width=200),
            sleep=self.waits.append,
        )

    @property
    def answers(self) -> str:
        return self._answers.getvalue()

    @property
    def notes(self) -> str:
        return self._notes.getvalue()


def test_an_answer_is_printed_as_it_is() -> None:
    terminal = Terminal(ANSWER)
    assert terminal.session.ask("hello") is Outcome.ANSWERED
    assert terminal.answers == "Hi [b]there[/b]\n"
    assert terminal.notes == ""
    assert terminal.session.last_turn_id == TURN


def test_the_second_question_continues_the_conversation_and_new_starts_another() -> None:
    terminal = Terminal(ANSWER)
    terminal.session.ask("one")
    terminal.session.ask("two")
    terminal.session.start_anew()
    terminal.session.ask("three")
    assert [question.conversation_id for question in terminal.api.asked] == [None, CONVERSATION, None]


def test_ctrl_c_cancels_the_turn_and_stays() -> None:
    terminal = Terminal((Started(TURN, CONVERSATION), Piece("Hi"), KeyboardInterrupt()))
    assert terminal.session.ask("hello") is Outcome.CANCELLED
    assert terminal.api.cancelled == [TURN]
    assert terminal.answers == "Hi\n"
    assert "Cancelled." in terminal.notes


def test_ctrl_c_before_the_answer_has_nothing_to_cancel() -> None:
    terminal = Terminal((KeyboardInterrupt(),))
    assert terminal.session.ask("hello") is Outcome.CANCELLED
    assert terminal.api.cancelled == []


def test_a_cancel_that_does_not_arrive_is_told() -> None:
    terminal = Terminal((Started(TURN, CONVERSATION), KeyboardInterrupt()))
    terminal.api.cancel_error = httpx2.ConnectError("refused")
    assert terminal.session.ask("hello") is Outcome.CUT
    assert "goes on there" in terminal.notes


def test_an_answer_cancelled_elsewhere_counts_as_cancelled() -> None:
    terminal = Terminal((Started(TURN, CONVERSATION), Ended("cancelled", None)))
    assert terminal.session.ask("hello") is Outcome.CANCELLED


def test_it_tries_again_while_there_is_no_connection() -> None:
    refused: Script = (httpx2.ConnectError("refused"),)
    terminal = Terminal(refused, refused, ANSWER)
    assert terminal.session.ask("hello") is Outcome.ANSWERED
    assert terminal.waits == [0.5, 1.0]
    assert "attempt 2 of 4" in terminal.notes
    assert "attempt 3 of 4" in terminal.notes


def test_it_gives_up_after_bounded_attempts() -> None:
    terminal = Terminal((httpx2.ConnectError("refused"),))
    assert terminal.session.ask("hello") is Outcome.UNREACHABLE
    assert len(terminal.api.asked) == CONNECT_ATTEMPTS_MAX
    assert "/retry" in terminal.notes


@pytest.mark.parametrize("cut", [httpx2.ReadError("reset"), AnswerCutError()])
def test_a_broken_stream_is_not_asked_again_by_itself(cut: Exception) -> None:
    terminal = Terminal((Started(TURN, CONVERSATION), Piece("Hi"), cut))
    assert terminal.session.ask("hello") is Outcome.CUT
    assert len(terminal.api.asked) == 1
    assert "/history shows it, /retry asks again" in terminal.notes


def test_retry_asks_the_last_question_again() -> None:
    terminal = Terminal((Started(TURN, CONVERSATION), AnswerCutError()), ANSWER)
    assert terminal.session.retry() is None
    terminal.session.ask("hello")
    assert terminal.session.retry() is Outcome.ANSWERED
    assert [question.text for question in terminal.api.asked] == ["hello", "hello"]


def test_a_refusal_is_one_line_with_the_wait() -> None:
    terminal = Terminal((ApiError("Too fast.", 429, "rate_limit_exceeded", "7"),))
    assert terminal.session.ask("hello") is Outcome.REFUSED
    assert terminal.notes == "429: Too fast. Try again in 7 s.\n"


@pytest.mark.parametrize(("reason", "note"), [("length", "length limit"), ("content_filter", "content policy")])
def test_an_early_end_is_explained(reason: str, note: str) -> None:
    terminal = Terminal((Started(TURN, CONVERSATION), Piece("a"), Ended(reason, 1)))
    assert terminal.session.ask("hello") is Outcome.ANSWERED
    assert note in terminal.notes


def test_history_shows_who_said_what() -> None:
    terminal = Terminal(ANSWER)
    assert not terminal.session.show_history()
    terminal.session.conversation_id = CONVERSATION
    terminal.api.items = [Item("user", "hello"), Item("assistant", "Hi [b]")]
    assert terminal.session.show_history()
    assert terminal.answers == "[user] hello\n[assistant] Hi [b]\n"


class TypedLines(Console):
    """A console whose user types these lines and then Ctrl-D."""

    def __init__(self, *lines: str | type[BaseException]) -> None:
        self.shown = StringIO()
        super().__init__(file=self.shown, width=200)
        self._lines = list(lines)

    def input(self, *_args: object, **_options: object) -> str:
        line = self._lines.pop(0) if self._lines else EOFError
        if isinstance(line, str):
            return line
        raise line


def converse(terminal: Terminal, *lines: str | type[BaseException], trace: Callable[[str], None] = print) -> str:
    console = TypedLines(*lines)
    Repl(terminal.session, console, trace).run()
    return console.shown.getvalue()


def test_lines_are_questions_and_empty_ones_are_not() -> None:
    terminal = Terminal(ANSWER)
    converse(terminal, "hello", "", "  ", "again")
    assert [question.text for question in terminal.api.asked] == ["hello", "again"]


def test_quit_leaves_and_ctrl_c_at_the_prompt_does_not() -> None:
    terminal = Terminal(ANSWER)
    shown = converse(terminal, KeyboardInterrupt, "hello", "/quit", "never asked")
    assert "Ctrl-D leaves" in shown
    assert [question.text for question in terminal.api.asked] == ["hello"]


def test_trace_needs_a_turn() -> None:
    terminal, traced = Terminal(ANSWER), list[str]()
    assert "Nothing was asked yet." in converse(terminal, "/trace", trace=traced.append)
    converse(terminal, "hello", "/trace", trace=traced.append)
    assert traced == [TURN]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("/help", "/history"),
        ("/new", "A new conversation."),
        ("/retry", "Nothing was asked yet."),
        ("/nonsense", "No such command"),
    ],
)
def test_commands_answer(line: str, answer: str) -> None:
    terminal = Terminal(ANSWER)
    assert answer in converse(terminal, line)
    assert terminal.api.asked == []
