"""``turnstream demo``: two turns of one conversation through the unmodified OpenAI SDK, and where they went."""

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import httpx2
import typer
from rich.console import Console

from schemas.models import DEFAULT_CATALOGUE
from turnstream.chat.api import ApiError, ChatApi, open_client
from turnstream.commands.exits import Exit, fail
from turnstream.commands.running_stack import Connection, LocalRun, find_connection, local_run
from turnstream.commands.trace import show_trace

if TYPE_CHECKING:
    from openai import OpenAI

TURN_SECONDS_MAX: Final = 60.0
QUESTIONS: Final = ("What is an event log?", "Which question did I ask before this one?")


def register(app: typer.Typer) -> None:
    """Add the ``demo`` command to ``app``."""
    app.command()(demo)


def demo() -> None:
    """Show a streamed chat, its history and its trace. Starts the local stack if none runs, and stops it again."""
    _require_openai()
    console = Console()
    with _running() as connection, _openai_client(connection) as client:
        conversation_id, turn_id = "", ""
        for question in QUESTIONS:
            console.rule("a turn, streamed")
            console.print(f"you> {question}", style="bold", markup=False)
            conversation_id, turn_id = _ask(client, console, question, conversation_id)
        console.rule("the stored conversation")
        _show_history(console, connection, conversation_id)
        console.rule("the way of the second turn")
        show_trace(turn_id)


@contextlib.contextmanager
def _running() -> Iterator[Connection]:
    """The Turnstream that the environment names or that runs here already, else one for the time of the demo."""
    connection = find_connection(os.environ, local_run())
    if connection is not None:
        yield connection
        return
    try:
        from turnstream.local_stack.errors import StackError  # noqa: PLC0415  # comes with the extra `local`
        from turnstream.local_stack.progress import StartDisplay  # noqa: PLC0415
        from turnstream.local_stack.stack import Stack  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        fail(f"{missing.name} is missing: install the extra `turnstream[local]`")
    try:
        with StartDisplay(Console()) as display:
            stack = Stack(observer=display.observer)
            record = stack.start()
    except StackError as error:
        fail(error.message, Exit.NOT_RUNNING)
    try:
        started = LocalRun(record.base_url, record.key, record.environment)
        connection = find_connection(os.environ, started)
        if connection is None:
            fail("the stack that was started made no API key")
        yield connection
    finally:
        stack.stop()


def _require_openai() -> None:
    if importlib.util.find_spec("openai") is None:
        fail("the demo talks through the package `openai`: install it with `pip install openai`")


def _openai_client(connection: Connection) -> "OpenAI":
    from openai import OpenAI  # noqa: PLC0415  # a development dependency: clients use it, we do not

    return OpenAI(base_url=connection.base_url, api_key=connection.api_key, timeout=TURN_SECONDS_MAX)


def _ask(client: "OpenAI", console: Console, question: str, conversation_id: str) -> tuple[str, str]:
    """Stream one turn to the console; returns its conversation and its public id."""
    from openai import OpenAIError  # noqa: PLC0415  # see `_openai_client`

    # `conversation_id` is our extension; `store` begins a conversation that is kept.
    where = {"conversation_id": conversation_id} if conversation_id else {"store": True}
    turn_id = ""
    try:
        with client.chat.completions.create(
            model=DEFAULT_CATALOGUE[0].id,
            messages=[{"role": "user", "content": question}],
            stream=True,
            extra_body=where,
        ) as chunks:
            for chunk in chunks:
                turn_id = chunk.id
                conversation_id = (chunk.model_extra or {}).get("conversation_id", conversation_id)
                for choice in chunk.choices:
                    console.print(choice.delta.content or "", end="", markup=False, highlight=False, soft_wrap=True)
    except OpenAIError as error:
        fail(f"the turn failed: {type(error).__name__}: {error}")
    console.print()
    return conversation_id, turn_id


def _show_history(console: Console, connection: Connection, conversation_id: str) -> None:
    try:
        with open_client(connection.base_url, connection.api_key) as client:
            items = ChatApi(client).history(conversation_id)
    except (ApiError, httpx2.TransportError) as error:
        fail(f"the history could not be read: {type(error).__name__}")
    for item in items:
        console.print(f"{item.role:>9}  {item.text}", markup=False, highlight=False, soft_wrap=True)
