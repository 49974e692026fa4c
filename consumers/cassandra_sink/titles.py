"""The title that a conversation gives itself: its first question, cut to a line. Pure.

**Timestamps.** The title of the earliest turn wins, however often and in whatever order turns write theirs: the cell's
timestamp falls as the time of submission grows. All of these lie in the first weeks of 1970, so that whatever else is
said about the row counts more.
"""

from collections.abc import Sequence
from typing import Final

from consumers.cassandra_sink.rows import TitleRow
from schemas.events import NO_PARENT
from schemas.messages import Message, Role
from schemas.tokens import Cleared

TITLE_CHARS_MAX: Final = 60

_ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"
# The first power of two above any time of submission, in milliseconds.
LATEST_MS: Final = 1 << 42


def title_row(cleared: Cleared) -> TitleRow | None:
    """The title of the conversation that the turn opens, or None when it opens none or asks nothing."""
    if cleared.parent_seq != NO_PARENT or cleared.answers_seq is not None:
        return None
    title = title_of(cleared.input)
    if title is None:
        return None
    return TitleRow(
        tenant_id=cleared.tenant_id,
        user_id=cleared.user_id,
        conversation_id=cleared.conversation_id,
        auto_title=title,
        written_us=max(0, LATEST_MS - cleared.submitted_at_ms),
    )


def title_of(messages: Sequence[Message]) -> str | None:
    """The first line with words of the first user message, cut between words where it is too long."""
    for message in messages:
        if message.role is Role.USER:
            for line in message.content.text.splitlines():
                words = "".join(char if char.isprintable() else " " for char in line).split()
                if words:
                    return _cut(" ".join(words))
    return None


def _cut(line: str) -> str:
    if len(line) <= TITLE_CHARS_MAX:
        return line
    room = line[: TITLE_CHARS_MAX - len(_ELLIPSIS)]
    whole_words = room.rpartition(" ")[0] if line[len(room)] != " " else room
    return (whole_words or room).rstrip() + _ELLIPSIS
