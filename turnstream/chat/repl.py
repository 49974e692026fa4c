"""The loop around a conversation: lines in, questions and commands out."""

from collections.abc import Callable
from typing import Final

from rich.console import Console

from turnstream.chat.session import ChatSession

PROMPT: Final = "[bold]you>[/bold] "
HELP: Final = """\
Write a message and press Enter. Ctrl-C stops an answer, Ctrl-D leaves.
  /new      start another conversation
  /history  show the stored messages
  /retry    ask the last question again
  /trace    show the way of the last turn
  /help     show this
  /quit     leave"""


class Repl:
    """Reads lines until the user leaves. ``show_trace`` prints the way of a turn and tells its own errors."""

    def __init__(self, session: ChatSession, console: Console, show_trace: Callable[[str], None]) -> None:
        self._session = session
        self._console = console
        self._show_trace = show_trace
        self._commands: dict[str, Callable[[], object]] = {
            "/new": self._new,
            "/history": session.show_history,
            "/retry": self._retry,
            "/trace": self._trace,
            "/help": self._help,
        }

    def run(self) -> None:
        """Return when the user leaves with Ctrl-D or ``/quit``."""
        while True:
            try:
                line = self._console.input(PROMPT).strip()
            except EOFError:
                self._console.print()
                return
            except KeyboardInterrupt:
                self._say("(Ctrl-D leaves)")
                continue
            if line == "/quit":
                return
            self._take(line)

    def _take(self, line: str) -> None:
        if not line:
            return
        if not line.startswith("/"):
            self._session.ask(line)
        elif (command := self._commands.get(line)) is not None:
            command()
        else:
            self._say("No such command; /help lists them.")

    def _new(self) -> None:
        self._session.start_anew()
        self._say("A new conversation.")

    def _retry(self) -> None:
        if self._session.retry() is None:
            self._say("Nothing was asked yet.")

    def _trace(self) -> None:
        if self._session.last_turn_id is None:
            self._say("Nothing was asked yet.")
        else:
            self._show_trace(self._session.last_turn_id)

    def _help(self) -> None:
        self._say(HELP)

    def _say(self, text: str) -> None:
        self._console.print(text, style="dim", markup=False, highlight=False)
