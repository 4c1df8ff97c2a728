"""Seccomp: system calls that computing never needs, refused by the kernel with EPERM.

A list of what is refused, not of what is allowed: Python, PyTorch and the drivers of accelerators use several hundred
calls, and a new one must not stop audits. Files and ports are the part of landlock; this is about other processes,
about sockets of every family, and about calls in which faults of the kernel were found.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import Final

_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000

_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_* of the machine; calls in the form of another one, such as of 32 bits, are refused altogether."""

_X32 = 0x40000000
"""Bit of the numbers of the x32 form on x86-64."""

# name -> number on x86-64, number on arm64; -1 where it does not exist
REFUSED: Final = {
    # looking into other processes, or stopping them
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    # mounts and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    # keys of the kernel
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # programs inside the kernel, and measuring it
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    # asynchronous calls pass by every filter
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # the machine
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "iopl": (172, -1),
    "ioperm": (173, -1),
    "modify_ldt": (154, -1),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
}

_SOCKET, _CLONE, _CLONE3, _IOCTL = {"x86_64": (41, 56, 435, 16), "aarch64": (198, 220, 435, 29)}.get(
    platform.machine(), (-1, -1, -1, -1)
)

_NAMESPACES = 0x7E020000
"""Flags of `clone` that make a namespace."""

_TIOCSTI = 0x5412
"""`ioctl` that types into the terminal."""

NETWORK_FAMILIES = (2, 10, 16)
"""IPv4, IPv6, and netlink, with which the C library finds out how to reach an address."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT, _SECOND_ARGUMENT_AT = 0, 4, 16, 24


def can_filter() -> bool:
    """Whether this machine has the filter, and its system calls are known here."""
    return sys.platform == "linux" and platform.machine() in _SECCOMP and os.path.exists("/proc/sys/kernel/seccomp")  # noqa: PTH110 - a question of the kernel


def refuse_calls(*, network: bool) -> bool:
    """Refuse calls to this process, to all its threads, and to all processes that they start, for ever.

    Args:
        network: Whether sockets of IP are allowed; all others are refused in any case.

    Returns:
        Whether the filter is in force.

    Raises:
        OSError: The kernel has the filter and refused the program.
    """
    if not can_filter():
        return False
    program = _program(network=network)
    buffer = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    number = ctypes.c_long(_SECCOMP[platform.machine()])
    flags = ctypes.c_long(_ALL_THREADS)
    if libc.syscall(number, ctypes.c_long(_SET_MODE_FILTER), flags, described) != 0:
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")
    return True


def _program(*, network: bool) -> bytes:
    """The filter in the machine language of BPF."""
    arm = platform.machine() == "aarch64"
    refused, missing = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    steps = [
        _step(_LOAD, _ARCHITECTURE_AT),
        _step(_EQUAL, _ARCHITECTURE[platform.machine()], 1, 0),
        _step(_RETURN, refused),
        _step(_LOAD, _NUMBER_AT),
    ]
    if not arm:
        steps += [_step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, refused)]
    for numbers in REFUSED.values():
        if numbers[arm] >= 0:
            steps += [_step(_EQUAL, numbers[arm], 0, 1), _step(_RETURN, refused)]
    # the C library falls back to `clone`, whose flags a filter can read
    steps += [_step(_EQUAL, _CLONE3, 0, 1), _step(_RETURN, missing)]
    steps += _with_argument(_CLONE, _FIRST_ARGUMENT_AT, [_step(_ANY_BIT, _NAMESPACES, 0, 1), _step(_RETURN, refused)])
    steps += _with_argument(_IOCTL, _SECOND_ARGUMENT_AT, [_step(_EQUAL, _TIOCSTI, 0, 1), _step(_RETURN, refused)])
    families = NETWORK_FAMILIES if network else ()
    allowed = [step for family in families for step in (_step(_EQUAL, family, 0, 1), _step(_RETURN, _ALLOW))]
    steps += _with_argument(_SOCKET, _FIRST_ARGUMENT_AT, [*allowed, _step(_RETURN, refused)])
    return b"".join((*steps, _step(_RETURN, _ALLOW)))


def _with_argument(number: int, place: int, steps: list[bytes]) -> list[bytes]:
    """Steps that are only for one call, with the lower half of one of its arguments at hand."""
    inside = [_step(_LOAD, place), *steps, _step(_LOAD, _NUMBER_AT)]
    return [_step(_EQUAL, number, 0, len(inside)), *inside]


def _step(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    """One instruction: how many instructions to skip if it is so, and if not."""
    return struct.pack("=HBBI", code, if_so, if_not, value)
