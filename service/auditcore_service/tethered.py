"""Tie a process to its parent, so that it never outlives it.

`python -m auditcore_service.tethered PARENT_PID SIGNAL COMMAND...`: the kernel sends SIGNAL when the parent dies, even
by kill -9. This is a wrapper because `preexec_fn` may deadlock in a process that has threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def tie(parent: int, number: int) -> None:
    """Make the kernel send this process a signal when its parent dies; does nothing on systems other than Linux.

    Args:
        parent: Process id of the parent. If the parent has already died, this process is killed.
        number: The signal.

    Raises:
        OSError: The kernel refused.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # the parent died before the signal was set
        os.kill(os.getpid(), signal.SIGKILL)


def main(arguments: list[str]) -> None:
    """Tie this process to its parent, then become the command."""
    parent, number, *command = arguments
    tie(int(parent), int(number))
    os.execvp(command[0], command)  # noqa: S606 - replacing this process is the point; no shell is involved


if __name__ == "__main__":
    main(sys.argv[1:])
