"""One compute process while it runs: how it is started, how it is ended, and what is left of it."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import final

from auditcore_service.worker.channel import Channel
from auditcore_service.worker.compute_folders import ComputeFolder

EXIT_S = 5.0
"""Longest wait for the end of a process that has closed its channel, which comes a moment later."""

END_S = 30.0
"""Longest wait for a process that was killed; one that waits for a disk may take a while."""


@final
class ChildProcess:
    """A process of its own session, with an empty folder, an environment of its own, and one channel.

    Attributes:
        channel: To the process.
        folder: Its folder; removed when it ends, however it ends.
    """

    def __init__(self, environment: Mapping[str, str], folder: ComputeFolder) -> None:
        """Start it.

        Args:
            environment: Its whole environment.
            folder: Its folder.

        Raises:
            OSError: The system cannot start a process.
        """
        self.folder = folder
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours)
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._started, self._ended = threading.Event(), threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._error: OSError | None = None
        # the kernel's parent-death signal watches the thread that started the child: this one lives as long as it
        self._thread = threading.Thread(target=self._watch, args=(theirs,), name="compute-process", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            raise self._error
        atexit.register(self.kill)

    @property
    def pid(self) -> int:
        """Its process id, which is that of its session too."""
        assert self._process is not None  # noqa: S101 - it was started
        return self._process.pid

    def kill(self) -> None:
        """End it and all processes that it has started, at once. Safe in any thread; may be called again."""
        with self._lock:
            if not self._ended.is_set():
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, signal.SIGKILL)
        self._ended.wait(END_S)

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._ended.is_set()

    def exit_code(self) -> int | None:
        """How it has ended, as `subprocess` counts; None if it has not within a few seconds."""
        self._ended.wait(EXIT_S)
        return None if self._process is None else self._process.returncode

    def cpu_seconds(self) -> float:
        """The time that its threads have computed so far."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _watch(self, theirs: socket.socket) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                [
                    sys.executable,
                    "-P",  # its working folder, where code of models may write, is no place of modules
                    "-m",
                    "auditcore_service.worker.compute_child",
                    str(os.getpid()),
                    str(theirs.fileno()),
                ],
                env=self._environment,
                cwd=self.folder.own,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                # its own group, so that it ends with everything that it has started; Ctrl-C goes only to the worker
                start_new_session=True,
            )
        except OSError as error:
            self._error = error
            self.folder.remove()
            self._ended.set()
            return
        finally:
            theirs.close()
            self._started.set()
        process = self._process
        # not reaped yet, so that its number belongs to nobody else
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self._ended.set()
        atexit.unregister(self.kill)
        self.folder.remove()
