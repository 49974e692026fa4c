"""What can go wrong with the local stack, each with the exit code of the command line."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of `turnstream up`, `down`, `status` and `logs`; scripts may rely on them."""

    OK = 0
    FAILED = 1
    NOT_RUNNING = 3
    ALREADY_RUNNING = 4
    PORT_TAKEN = 5
    NOT_READY = 6
    PROVISIONING = 7


class StackError(Exception):
    """A failure that the user can act on: one line, plus log lines where a part of the stack is to blame."""

    code = ExitCode.FAILED

    def __init__(self, message: str, log_lines: tuple[str, ...] = ()) -> None:
        """`message` is one line; `log_lines` are the last lines of the failing part's log."""
        super().__init__(message)
        self.message = message
        self.log_lines = log_lines

    def __str__(self) -> str:
        """Return the line and the log lines below it, as a traceback shows it."""
        return "\n  | ".join((self.message, *self.log_lines))


class AlreadyRunningError(StackError):
    """Another live run owns this home folder."""

    code = ExitCode.ALREADY_RUNNING


class NotRunningError(StackError):
    """The command needs a live run and there is none."""

    code = ExitCode.NOT_RUNNING


class PortTakenError(StackError):
    """A port that the user asked for by name is in use."""

    code = ExitCode.PORT_TAKEN


class ProvisioningError(StackError):
    """A jar, a Java or a server binary could not be had."""

    code = ExitCode.PROVISIONING


class PartFailedError(StackError):
    """A part ended or missed its deadline while the stack was starting."""

    code = ExitCode.NOT_READY
