"""One conversation at a terminal: asks, streams, cancels, tries again, shows history."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import httpx2
from rich.console import Console

from turnstream.chat.api import AnswerCutError, AnswerPart, ApiError, ChatApi, Ended, Piece, Question, Started

CONNECT_ATTEMPTS_MAX: Final = 4
_FIRST_DELAY_S: Final = 0.5
_NEVER_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout)


class Outcome(Enum):
    """How a turn ended for its user."""

    ANSWERED = auto()
    CANCELLED = auto()
    REFUSED = auto()
    CUT = auto()
    UNREACHABLE = auto()


@dataclass(slots=True)
class _Turn:
    """What is known of the turn under way."""

    turn_id: str = ""
    ended: Ended | None = None


class ChatSession:
    """Keeps the conversation and the last turn. ``answers`` gets the text, ``notes`` everything else."""

    def __init__(
        self,
        api: ChatApi,
        model: str,
        answers: Console,
        notes: Console,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._api = api
        self._model = model
        self._answers = answers
        self._notes = notes
        self._sleep = sleep
        self._question: str | None = None
        self.conversation_id: str | None = None
        self.last_turn_id: str | None = None

    def ask(self, text: str) -> Outcome:
        """Ask and print the answer as it comes; Ctrl-C cancels the turn. Errors are told, never raised."""
        self._question = text
        question = Question(text, self._model, self.conversation_id)
        turn = _Turn()
        try:
            self._stream(question, turn)
        except KeyboardInterrupt:
            return self._cancel(turn.turn_id)
        except ApiError as error:
            return self._tell_refusal(error)
        except _NEVER_SENT:
            self._note(f"No connection after {CONNECT_ATTEMPTS_MAX} attempts. Is the stack up? /retry asks again.")
            return Outcome.UNREACHABLE
        except (httpx2.TransportError, AnswerCutError):
            self._note("The connection broke. The answer may be finishing: /history shows it, /retry asks again.")
            return Outcome.CUT
        return Outcome.CANCELLED if turn.ended and turn.ended.finish_reason == "cancelled" else Outcome.ANSWERED

    def retry(self) -> Outcome | None:
        """Ask the last question again; None when there is none."""
        return None if self._question is None else self.ask(self._question)

    def start_anew(self) -> None:
        """Forget the conversation: the next question starts another."""
        self.conversation_id = self.last_turn_id = self._question = None

    def show_history(self) -> bool:
        """Print the stored messages; False when there are none to print."""
        if self.conversation_id is None:
            self._note("There is no conversation yet.")
            return False
        try:
            items = self._api.history(self.conversation_id)
        except ApiError as error:
            self._note(error.message)
            return False
        except httpx2.TransportError:
            self._note("No connection.")
            return False
        for item in items:
            self._answers.print(f"[{item.role}] ", end="", markup=False, style="bold")
            self._answers.print(item.text, markup=False, highlight=False, soft_wrap=True)
        return bool(items)

    def _stream(self, question: Question, turn: _Turn) -> None:
        for part in self._connected(question):
            match part:
                case Started():
                    turn.turn_id = self.last_turn_id = part.turn_id
                    self.conversation_id = part.conversation_id or self.conversation_id
                case Piece():
                    self._answers.print(part.text, end="", markup=False, highlight=False, soft_wrap=True)
                case Ended():
                    turn.ended = part
                    self._answers.print()
                    self._tell_early_end(part)

    def _connected(self, question: Question) -> Iterator[AnswerPart]:
        """The answer, with bounded new attempts while the request cannot even be sent."""
        for attempt in range(1, CONNECT_ATTEMPTS_MAX + 1):
            try:
                yield from self._api.ask(question)
            except _NEVER_SENT:
                if attempt == CONNECT_ATTEMPTS_MAX:
                    raise
                self._note(f"No connection; attempt {attempt + 1} of {CONNECT_ATTEMPTS_MAX} ...")
                self._sleep(_FIRST_DELAY_S * 2 ** (attempt - 1))
            else:
                return

    def _cancel(self, turn_id: str) -> Outcome:
        self._answers.print()
        if not turn_id:
            self._note("Stopped waiting; no answer had begun.")
            return Outcome.CANCELLED
        try:
            stopped = self._api.cancel(turn_id)
        except (ApiError, httpx2.TransportError):
            self._note("Could not tell the server to stop; the answer goes on there.")
            return Outcome.CUT
        self._note("Cancelled." if stopped else "The answer had already ended.")
        return Outcome.CANCELLED

    def _tell_early_end(self, ended: Ended) -> None:
        if ended.finish_reason == "length":
            self._note("The answer reached its length limit.")
        elif ended.finish_reason == "content_filter":
            self._note("The answer was stopped by the content policy.")

    def _tell_refusal(self, error: ApiError) -> Outcome:
        if error.status is None:
            self._answers.print()
        wait = f" Try again in {error.retry_after_s} s." if error.retry_after_s else ""
        number = f"{error.status}: " if error.status else ""
        self._note(f"{number}{error.message}{wait}")
        return Outcome.REFUSED

    def _note(self, text: str) -> None:
        self._notes.print(text, style="yellow", markup=False, highlight=False)
