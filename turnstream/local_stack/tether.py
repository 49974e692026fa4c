"""Runs a command that dies with its parent: `python tether.py <parent pid> <command> ...` (Linux only).

A supervisor that gets SIGKILL can clean up nothing, so the kernel has to: it sends SIGKILL to the child when the
thread that started it ends. The setting survives exec, and the process id stays the same. This file runs without
site-packages and imports nothing of ours: it costs every start a bare interpreter and no more.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for the signal, make sure that the parent did not end before that, become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the supervisor is gone")
    os.execvp(command[0], command)  # noqa: S606 - the supervisor's own command, no shell


if __name__ == "__main__":
    main()
