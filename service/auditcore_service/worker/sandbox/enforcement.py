"""Puts a profile in force for this process, as far as the kernel can."""

from __future__ import annotations

import ctypes
import os
import sys

from auditcore_service.worker.sandbox.landlock import (
    NETWORK_VERSION,
    SIGNALS_VERSION,
    landlock_version,
    restrict,
)
from auditcore_service.worker.sandbox.profile import SandboxProfile
from auditcore_service.worker.sandbox.seccomp import can_filter, refuse_calls

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38


class SandboxMissing(Exception):
    """The operator requires a sandbox, and this kernel has none."""


def what_is_missing() -> str | None:
    """Why this kernel cannot enforce a profile in full; None if it can."""
    if landlock_version() == 0:
        return "landlock (Linux 5.13 and later; `lsm=` of the kernel has to name it)"
    if landlock_version() < NETWORK_VERSION:
        return "landlock with TCP (Linux 6.7 and later)"
    return None if can_filter() else "seccomp on x86-64 or arm64"


def enforce(profile: SandboxProfile) -> tuple[str, ...]:
    """Give up all rights that a profile does not name. To be called while this process has one thread.

    Returns:
        What is in force, by name.

    Raises:
        SandboxMissing: The profile is required, and the kernel cannot enforce it.
    """
    missing = what_is_missing()
    if profile.required and missing is not None:
        msg = f"AUDIT_SANDBOX is required, and this kernel lacks {missing}; set it to auto, or use another kernel"
        raise SandboxMissing(msg)
    if sys.platform != "linux":
        return ()
    _set(_PR_SET_NO_NEW_PRIVS, 1)
    # the process's own folder of /proc, which exists only now
    version = restrict((*profile.read, f"/proc/{os.getpid()}"), profile.write, profile.ports, listed=profile.listed)
    filtered = refuse_calls(network=profile.ports is not None)
    names = (
        ("no_new_privileges", True),
        ("files", version > 0),
        ("tcp", version >= NETWORK_VERSION),
        ("signals", version >= SIGNALS_VERSION),
        ("system_calls", filtered),
    )
    return tuple(name for name, holds in names if holds)


def hide_process() -> None:
    """Keep other processes of this user from reading the environment and the memory of this one.

    The kernel then gives its files below /proc to root, and writes no core dumps of it. A program that is started is
    readable again.
    """
    if sys.platform == "linux":
        _set(_PR_SET_DUMPABLE, 0)


def _set(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
