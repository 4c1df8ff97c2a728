"""Landlock: the kernel refuses files and TCP ports that a profile does not name, and signals to other processes.

The interface is that of `man 7 landlock`. A process can only ever take rights away from itself.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""System calls; the same numbers on all architectures."""

_VERSION_FLAG = 1
_PATH_BENEATH, _NET_PORT = 1, 2

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
_CONNECT_TCP = 1 << 1
_ABSTRACT_UNIX_SOCKETS, _SIGNALS = 1 << 0, 1 << 1

_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""Version of the interface -> how many rights to files it knows, each a bit."""

_TRUNCATE, _IOCTL_DEVICE = 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
"""Rights that a rule about a single file may have; the others are about folders."""

NETWORK_VERSION, SIGNALS_VERSION = 4, 6


def landlock_version() -> int:
    """The version of the interface of this kernel; 0 without it, or where it is turned off."""
    if sys.platform != "linux":
        return 0
    return max(0, _call(_CREATE_RULESET, None, 0, _VERSION_FLAG))


def restrict(
    read: Iterable[str], write: Iterable[str], ports: Iterable[int] | None, *, listed: Iterable[str] = ()
) -> int:
    """Refuse everything else to this thread and to all threads and processes that it starts, for ever.

    Args:
        read: Files and folders to read, and programs and libraries to execute; those that do not exist are skipped.
        write: Files, folders and devices to read and write.
        ports: TCP ports to which connections may be made; None for none.
        listed: Folders whose names of files may be read, down to the last folder inside.

    Returns:
        The version of the interface, which says what is enforced: TCP from 4, signals to others from 6; 0 for nothing.

    Raises:
        OSError: The kernel refused the rules.
    """
    version = landlock_version()
    if version == 0:
        return 0
    files = (1 << max(count for known, count in _FILE_RIGHTS.items() if known <= version)) - 1
    # binding is refused with every profile: a process that computes serves nobody
    tcp = 0b11 if version >= NETWORK_VERSION else 0
    scope = _ABSTRACT_UNIX_SOCKETS | _SIGNALS if version >= SIGNALS_VERSION else 0
    attributes = struct.pack("=QQQ", files, tcp, scope)
    # a kernel takes no longer record than it knows
    size = 24 if version >= SIGNALS_VERSION else 16 if version >= NETWORK_VERSION else 8
    ruleset = _checked(_call(_CREATE_RULESET, attributes, size, 0), "landlock_create_ruleset")
    try:
        for path in read:
            _allow(ruleset, path, files & (_EXECUTE | _READ_FILE | _READ_DIR))
        for path in listed:
            _allow(ruleset, path, files & _READ_DIR)
        for path in write:
            # also executing: programs that were compiled for a model are loaded from where they were written
            _allow(ruleset, path, files)
        if tcp:
            for port in ports or ():
                rule = struct.pack("=QQ", _CONNECT_TCP, port)
                _checked(_call(_ADD_RULE, ruleset, _NET_PORT, rule, 0), "landlock_add_rule")
        _checked(_call(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, path: str, rights: int) -> None:
    # what does not exist, or what this user may not reach, cannot be read in any case
    with suppress(FileNotFoundError, PermissionError, NotADirectoryError):
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            wanted = rights if stat.S_ISDIR(os.fstat(handle).st_mode) else rights & _OF_FILES
            rule = struct.pack("=Qi", wanted, handle)
            _checked(_call(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0), f"landlock_add_rule for {Path(path)}")
        finally:
            os.close(handle)


def _call(number: int, *arguments: int | bytes | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    typed = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return int(libc.syscall(ctypes.c_long(number), *typed))


def _checked(result: int, name: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return result
