"""Code of models that tries what it may not do, for tests of the process that runs it. It says what became of it."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from torch import nn

import digits

PTRACE_ATTACH = 16


def attempt(what: str, at: str = "", port: int = 0) -> nn.Module:
    """Try something; the error of this factory says what became of it."""
    try:
        found = ATTEMPTS[what](at, port)
    except OSError as error:
        msg = f"refused: {type(error).__name__} {error.errno}"
        raise RuntimeError(msg) from error
    msg = f"done: {found}"
    raise RuntimeError(msg)


def _read(at: str, _port: int) -> object:
    return Path(at.replace("PARENT", str(os.getppid()))).read_bytes()[:20]


def _write(at: str, _port: int) -> object:
    return Path(at).write_text("written")


def _connect(at: str, port: int) -> object:
    if port == 0:
        with socket.socket(socket.AF_UNIX) as local:
            local.connect(at)
            return "connected"
    with socket.create_connection((at, port), timeout=5):
        return "connected"


def _ptrace(_at: str, _port: int) -> object:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(PTRACE_ATTACH, os.getppid(), None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    return "attached"


def _kill(_at: str, _port: int) -> object:
    os.kill(os.getppid(), 0)
    return "may send signals"


def _call(at: str, _port: int) -> object:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(int(at)), ctypes.c_long(0), ctypes.c_long(0), ctypes.c_long(0), ctypes.c_long(0)) < 0:
        raise OSError(ctypes.get_errno(), at)
    return "called"


def _shell(at: str, _port: int) -> object:
    program = f"print(open({at!r}, 'rb').read()[:20])"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    if done.returncode:
        raise PermissionError(13, done.stderr.decode()[-300:])
    return done.stdout


ATTEMPTS: dict[str, Callable[[str, int], object]] = {
    "environment": lambda _at, _port: sorted(os.environ),
    "folder": lambda _at, _port: (str(Path.cwd()), os.environ["TMPDIR"], sorted(map(str, Path.cwd().iterdir()))),
    "read": _read,
    "list": lambda at, _port: sorted(path.name for path in Path(at).iterdir()),
    "write": _write,
    "connect": _connect,
    "ptrace": _ptrace,
    "kill": _kill,
    "call": _call,
    "shell": _shell,
}


def sleeping(seconds: float) -> nn.Module:
    """Hang, and catch whatever could end it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            time.sleep(seconds)
        except BaseException:  # noqa: BLE001, S112 - as careless code does
            continue
    return digits.build()


def dying_when_loaded() -> nn.Module:
    """End the process."""
    os._exit(7)
