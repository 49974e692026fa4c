"""``turnstream chat``: talk to a model from the terminal."""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from schemas.ids import is_conversation_id
from schemas.models import DEFAULT_CATALOGUE
from turnstream.chat.api import ChatApi, open_client
from turnstream.chat.last_conversation import LastConversation
from turnstream.chat.repl import HELP, Repl
from turnstream.chat.session import ChatSession, Outcome
from turnstream.commands.exits import Exit, fail
from turnstream.commands.running_stack import Connection, require_connection

DEFAULT_MODEL: Final = DEFAULT_CATALOGUE[0].id
MESSAGE_CHARS_MAX: Final = 1_000_000
_EXITS: Final = {
    Outcome.CANCELLED: Exit.INTERRUPTED,
    Outcome.REFUSED: Exit.FAILED,
    Outcome.CUT: Exit.FAILED,
    Outcome.UNREACHABLE: Exit.NOT_RUNNING,
}

MessageText = Annotated[str, typer.Argument(help="Ask this once; without it, from a pipe or line by line.")]
ConversationId = Annotated[str, typer.Option("--conversation", "-c", help="Continue this conversation.")]
Last = Annotated[bool, typer.Option("--last", help="Continue the last conversation.")]
Model = Annotated[str, typer.Option("--model", "-m", help="The model to ask.")]


def register(app: typer.Typer) -> None:
    """Add the ``chat`` command to ``app``."""
    app.command()(chat)


def chat(
    message: MessageText = "", *, conversation: ConversationId = "", last: Last = False, model: Model = DEFAULT_MODEL
) -> None:
    """Chat with a model. Ctrl-C stops an answer, Ctrl-D leaves, /help lists the commands.

    Exit codes of a single question: 0 answered, 1 refused or broken, 3 nothing is running, 130 cancelled.
    """
    connection = require_connection()
    memory = LastConversation(Path(typer.get_app_dir("turnstream")) / "last_conversations.json")
    chosen = _conversation(conversation, memory, connection, last=last)
    once = message or _piped()
    with open_client(connection.base_url, connection.api_key) as client:
        session = ChatSession(ChatApi(client), model, answers=Console(), notes=Console(stderr=True))
        session.conversation_id = chosen
        outcome = session.ask(once) if once else _converse(session)
    # Not before the server took a turn of it: the id may have been somebody else's.
    if session.conversation_id is not None and session.last_turn_id is not None:
        memory.remember(connection.base_url, session.conversation_id)
    if outcome in _EXITS:
        raise typer.Exit(_EXITS[outcome])


def _conversation(conversation: str, memory: LastConversation, connection: Connection, *, last: bool) -> str | None:
    if conversation and last:
        fail("--conversation and --last exclude each other", Exit.BAD_INPUT)
    if conversation and not is_conversation_id(conversation):
        fail("not a conversation id: it begins with `conv_`", Exit.BAD_INPUT)
    if not last:
        return conversation or None
    recalled = memory.recall(connection.base_url)
    if recalled is None:
        fail("no conversation with this server is known here", Exit.NOT_FOUND)
    return recalled


def _piped() -> str:
    """What is piped in, empty at a terminal. Ends the command when that is nothing or too much."""
    if sys.stdin.isatty():
        return ""
    text = sys.stdin.read(MESSAGE_CHARS_MAX + 1).strip()
    if not text or len(text) > MESSAGE_CHARS_MAX:
        fail(f"a message has 1 to {MESSAGE_CHARS_MAX} characters", Exit.BAD_INPUT)
    return text


def _converse(session: ChatSession) -> Outcome:
    console = Console()
    console.print(HELP, style="dim", markup=False, highlight=False)
    if session.conversation_id is not None:
        session.show_history()
    Repl(session, console, _show_trace).run()
    if session.conversation_id is not None:
        console.print(f"Continue with: turnstream chat --conversation {session.conversation_id}", highlight=False)
    return Outcome.ANSWERED


def _show_trace(turn_id: str) -> None:
    """The trace inside the chat: a failure was told in a line already and must not end the chat."""
    from turnstream.commands.trace import show_trace  # noqa: PLC0415  # a chat by HTTP alone needs no Kafka client

    try:
        show_trace(turn_id)
    except typer.Exit:
        return
