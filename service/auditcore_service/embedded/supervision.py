"""Child processes that are started again when they die, and that never outlive their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import final

import structlog

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STABLE_S = 60.0
"""A child that lived this long was well: its next death is a new story, not a loop."""


@final
class SupervisedProcess:
    """One child, watched by a thread.

    Attributes:
        name: What the logs call it.
        starts: How often it has been started.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        orphan_signal: signal.Signals = signal.SIGKILL,
        grace_s: float = 5.0,
    ) -> None:
        """Describe the child.

        Args:
            name: What the logs call it.
            command: Program and arguments.
            environment: Added to this process's own.
            orphan_signal: What the kernel sends it when this process dies.
            grace_s: How long it may take to end on SIGTERM, before SIGKILL.
        """
        self.name = name
        self.starts = 0
        self._command = list(command)
        self._environment = dict(environment or {})
        self._orphan_signal = orphan_signal
        self._grace_s = grace_s
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        # The kernel's parent-death signal watches the thread that started the child. This one lives as long as the
        # child is wanted, whichever thread called `start`.
        self._thread = threading.Thread(target=self._watch, name=f"supervise-{name}", daemon=True)

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start it and keep it running until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """End it: SIGTERM, then SIGKILL for its whole group. Returns when it is gone and reaped."""
        self._stopping.set()
        with self._lock:
            process = self._process
            if process is not None and process.poll() is None:
                process.terminate()
        if self._thread.is_alive():
            self._thread.join(self._grace_s)
        if process is not None:
            # a grandchild may be left even when the child ended well
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        if self._thread.is_alive():
            self._thread.join()

    def kill(self) -> None:
        """End it at once, also while `stop` waits for it: SIGKILL for its whole group. Safe in a signal handler."""
        self._stopping.set()
        process = self._process
        if process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

    def _watch(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            started = time.monotonic()
            with self._lock:
                if self._stopping.is_set():
                    return
                self._process = self._spawn()
            code = self._process.wait()
            if self._stopping.is_set():
                return
            lived = time.monotonic() - started
            pause = FIRST_PAUSE_S if lived > STABLE_S else pause
            log.warning("child_died", child=self.name, code=code, lived_s=round(lived, 1), restart_in_s=pause)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            if self._stopping.wait(pause):
                return
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        tether = [
            sys.executable,
            "-m",
            "auditcore_service.tethered",
            str(os.getpid()),
            str(int(self._orphan_signal)),
        ]
        return subprocess.Popen(  # noqa: S603 - our own commands, no shell
            [*tether, *self._command],
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            # its own group: a terminal's Ctrl-C goes only to the parent, which ends its children in order
            start_new_session=True,
        )
