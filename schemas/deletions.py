"""What users deleted, as the table ``deletions`` names it: what is written again from the log leaves it out."""

from typing import Final

CONVERSATION: Final = "conversation"
_MESSAGE: Final = "message:"
_TURN: Final = "turn:"


def message_subject(message_seq: int) -> str:
    """The name of one message of the conversation."""
    return f"{_MESSAGE}{message_seq}"


def turn_subject(turn_id: str) -> str:
    """The name of a turn's stored answer, which its client deleted apart from the conversation."""
    return f"{_TURN}{turn_id}"


def message_of(subject: str) -> int | None:
    """The ``message_seq`` that ``subject`` names, or None when it names something else."""
    number = subject.removeprefix(_MESSAGE)
    return int(number) if subject.startswith(_MESSAGE) and number.isdecimal() else None


def turn_of(subject: str) -> str | None:
    """The turn whose answer ``subject`` names, or None when it names something else."""
    return subject.removeprefix(_TURN) if subject.startswith(_TURN) else None
