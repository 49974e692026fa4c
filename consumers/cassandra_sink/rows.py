"""What a turn leaves in Cassandra: rows and their timestamps. Pure.

**Timestamps.** Every cell of a turn is written ``USING TIMESTAMP`` (microseconds)
``submitted_at_ms * 1000 + 4 * accepted deltas + rank``, with rank 0 for a draft, 1 for a turn given up and 2 for an
ended one. It depends on the log alone, not on clocks of writers, and grows along the turn's records: a row of an ended
turn beats every draft of it, whoever writes them and in whatever order, and a row written twice is the same row. It
stays behind real time, since a turn takes longer than 4 microseconds a delta: a later deletion always wins.

**Parents.** The turn's own messages follow one another, the first follows ``Cleared.parent_seq``; the answer follows
the last of them, or the stored question that it answers again.

**Status.** ``streaming`` while the turn runs. An answer is ``complete`` when it finished (also when the content filter
ended it), ``incomplete`` when it was cut short: cancelled, failed, given up, or longer than the sink may hold. The
turn's own messages are ``complete`` once there is an answer to them, whole or not, or when none was wanted, else
``incomplete``: the history shows such a question, a prompt can leave it out.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

from consumers.cassandra_sink.turns import HeldTurn
from schemas.answer_extras import called, read_extras
from schemas.content import Content
from schemas.events import CHAT, Api, FinishReason, Usage
from schemas.messages import Message, Role, ToolCall
from schemas.ports import StoredMessage
from schemas.tokens import Cancelled, Cleared, Failed, Finished

Status = Literal["streaming", "complete", "incomplete"]

_RANKS: Final = 4
_CUT_SHORT: Final = frozenset({FinishReason.CANCELLED, FinishReason.FAILED})


class Rank(IntEnum):
    """Which of a turn's writes wins: the last bits of its timestamp."""

    DRAFT = 0
    GIVEN_UP = 1
    ENDED = 2


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One row of ``messages``; ``created_at_ms`` in Unix milliseconds, ``written_us`` its cell timestamp."""

    conversation_id: str
    message_seq: int
    turn_id: str
    role: Role
    name: str | None
    content: Content
    status: Status
    finish_reason: FinishReason | None
    model: str
    prompt_tokens: int | None
    completion_tokens: int | None
    created_at_ms: int
    written_us: int
    parent_seq: int | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class TitleRow:
    """The part of a row of ``conversations`` that its first question gives; see ``titles.title_row``."""

    tenant_id: str
    user_id: str
    conversation_id: str
    auto_title: str
    written_us: int


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """One row of ``conversations``; times as in ``MessageRow``."""

    tenant_id: str
    user_id: str
    conversation_id: str
    last_turn_id: str
    updated_at_ms: int
    written_us: int


@dataclass(frozen=True, slots=True)
class TurnRow:
    """One row of ``turns``; ``piece_chars`` cut the answer's text into its deltas again; times as in ``MessageRow``."""

    turn_id: str
    conversation_id: str
    tenant_id: str
    user_id: str
    model: str
    answer_seq: int
    piece_chars: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage | None
    submitted_at_ms: int
    written_us: int
    api: Api = CHAT
    request: Content | None = None
    choices: int = 1
    choice_reasons: tuple[FinishReason, ...] = ()
    extras: Content | None = None


def message_rows(turn: HeldTurn, cleared: Cleared, rank: Rank) -> tuple[MessageRow, ...]:
    """The turn's own messages and, where there is one, its answer, as they stand."""
    inputs = input_rows(turn, cleared, rank)
    return (*inputs, answer_row(turn, cleared, rank)) if has_answer(turn) else inputs


def input_rows(turn: HeldTurn, cleared: Cleared, rank: Rank) -> tuple[MessageRow, ...]:
    """The turn's own messages, in the order of the request."""
    status: Status = "streaming"
    if rank is not Rank.DRAFT:
        status = "complete" if has_answer(turn) or was_added(turn) else "incomplete"
    return tuple(
        MessageRow(
            conversation_id=cleared.conversation_id,
            message_seq=cleared.message_seq + index,
            turn_id=cleared.turn_id,
            role=message.role,
            name=message.name,
            content=message.content,
            status=status,
            finish_reason=None,
            model=cleared.model,
            prompt_tokens=None,
            completion_tokens=None,
            created_at_ms=cleared.submitted_at_ms,
            written_us=written_us(turn, cleared, rank),
            parent_seq=cleared.parent_seq if index == 0 else cleared.message_seq + index - 1,
            tool_calls=message.tool_calls,
            tool_call_id=message.tool_call_id,
        )
        for index, message in enumerate(cleared.input)
    )


def answer_row(turn: HeldTurn, cleared: Cleared, rank: Rank) -> MessageRow:
    """The answer as far as it goes."""
    usage = _usage(turn)
    return MessageRow(
        conversation_id=cleared.conversation_id,
        message_seq=cleared.answer_seq,
        turn_id=cleared.turn_id,
        role=Role.ASSISTANT,
        name=None,
        content=Content(turn.text),
        status=_answer_status(turn, rank),
        finish_reason=_finish_reason(turn),
        model=cleared.model,
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
        created_at_ms=turn.last_ms,
        written_us=written_us(turn, cleared, rank),
        parent_seq=_question_seq(cleared),
        tool_calls=called(tuple(read_extras(turn.extras.text).values())),
    )


def conversation_row(turn: HeldTurn, cleared: Cleared, rank: Rank) -> ConversationRow:
    """The conversation's place in its user's list."""
    return ConversationRow(
        tenant_id=cleared.tenant_id,
        user_id=cleared.user_id,
        conversation_id=cleared.conversation_id,
        last_turn_id=cleared.turn_id,
        updated_at_ms=turn.last_ms,
        written_us=written_us(turn, cleared, rank),
    )


def turn_row(turn: HeldTurn, cleared: Cleared) -> TurnRow:
    """The ended turn by its id."""
    return TurnRow(
        turn_id=cleared.turn_id,
        conversation_id=cleared.conversation_id,
        tenant_id=cleared.tenant_id,
        user_id=cleared.user_id,
        model=cleared.model,
        answer_seq=cleared.answer_seq,
        piece_chars=turn.pieces.chars,
        finish_reason=_finish_reason(turn) or FinishReason.FAILED,
        usage=_usage(turn),
        submitted_at_ms=cleared.submitted_at_ms,
        written_us=written_us(turn, cleared, Rank.ENDED),
        api=cleared.api,
        request=cleared.request,
        choices=cleared.choices,
        choice_reasons=_choice_reasons(turn),
        extras=Content(turn.extras.text) if len(turn.extras) else None,
    )


def stored_messages(rows: tuple[MessageRow, ...]) -> tuple[StoredMessage, ...]:
    """The rows as the history port would read them back."""
    return tuple(
        StoredMessage(
            message_seq=row.message_seq,
            turn_id=row.turn_id,
            message=Message(
                role=row.role,
                content=row.content,
                name=row.name,
                tool_calls=row.tool_calls,
                tool_call_id=row.tool_call_id,
            ),
            complete=row.status == "complete",
            created_at_ms=row.created_at_ms,
            parent_seq=row.parent_seq,
        )
        for row in rows
    )


def has_answer(turn: HeldTurn) -> bool:
    """Whether there is an answer to show: some text, or an end that says that no text is the answer."""
    terminal = turn.state.terminal
    if turn.text_bytes > 0:
        return True
    return isinstance(terminal, Finished) and terminal.finish_reason not in _CUT_SHORT and not was_added(turn)


def was_added(turn: HeldTurn) -> bool:
    """Whether the turn's messages were added without asking for an answer."""
    cleared = turn.state.cleared
    return cleared is not None and not cleared.wants_answer


def written_us(turn: HeldTurn, cleared: Cleared, rank: Rank) -> int:
    """The cell timestamp of the turn's rows, in microseconds; the rule is in the module's docstring."""
    return cleared.submitted_at_ms * 1000 + _RANKS * turn.state.next_seq + rank


def _question_seq(cleared: Cleared) -> int | None:
    """The message that the answer follows."""
    if cleared.answers_seq is not None:
        return cleared.answers_seq
    return cleared.answer_seq - 1 if cleared.input else cleared.parent_seq


def _choice_reasons(turn: HeldTurn) -> tuple[FinishReason, ...]:
    terminal = turn.state.terminal
    return terminal.choice_reasons if isinstance(terminal, Finished) else ()


def _usage(turn: HeldTurn) -> Usage | None:
    terminal = turn.state.terminal
    return terminal.usage if isinstance(terminal, Finished) else None


def _answer_status(turn: HeldTurn, rank: Rank) -> Status:
    if rank is Rank.DRAFT:
        return "streaming"
    finished = isinstance(turn.state.terminal, Finished) and _finish_reason(turn) not in _CUT_SHORT
    return "complete" if finished and not turn.text_cut else "incomplete"


def _finish_reason(turn: HeldTurn) -> FinishReason | None:
    match turn.state.terminal:
        case Finished(finish_reason=reason):
            return reason
        case Cancelled():
            return FinishReason.CANCELLED
        case Failed():
            return FinishReason.FAILED
        case _:
            return None
