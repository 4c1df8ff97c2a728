"""One process of a deployment, in a session of its own, that a scenario may end, stop, continue and start again."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import final

import psutil

MARK = "CHAOS_DEPLOYMENT"
"""Variable of the environment that tells the processes of a deployment from all others of the machine."""


@final
class ServiceProcess:
    """A process and what starts it.

    Attributes:
        name: What the tables call it.
        log: File that gets its standard output and its standard error.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        prefix: Sequence[str] = (),
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Describe the process.

        Args:
            name: What the tables call it.
            command: Program and arguments.
            environment: The whole environment.
            log: File to append to.
            prefix: Programs that start the program, such as `ip netns exec`.
            user: Whose process it is; this user's if None.
            stop_signal: With which its orchestrator asks it to end.
        """
        self.name = name
        self.log = log
        self.prefix = tuple(prefix)
        self.environment = dict(environment)
        self._command = tuple(command)
        self._user = user
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        assert not self.is_alive
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.prefix, *self._command],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self._user,
                group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
                cwd="/",
            )

    def kill(self) -> None:
        """End this process with SIGKILL, and nothing else: its children have to notice."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self, seconds: float = 60.0) -> float:
        """Ask it to end; returns how many seconds that took."""
        assert self._process is not None
        started = time.monotonic()
        self._process.send_signal(self._stop_signal)
        self._process.wait(seconds)
        return time.monotonic() - started

    def stop_as_orchestrators_do(self, grace_s: float) -> float:
        """Ask it to end and, when the grace is over, end it with SIGKILL; returns how many seconds that took."""
        try:
            return self.stop(grace_s)
        except subprocess.TimeoutExpired:
            self.end()
            return grace_s

    def end(self) -> None:
        """End it and its group, whatever state they are in."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def freeze(pid: int) -> list[int]:
    """Stop a process and all its descendants with SIGSTOP, as a host does that is paused; returns whom."""
    process = psutil.Process(pid)
    frozen = [pid, *(child.pid for child in process.children(recursive=True))]
    for one in frozen:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGSTOP)
    return frozen


def thaw(pids: Sequence[int]) -> None:
    """Let processes continue."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def computing(pid: int) -> list[psutil.Process]:
    """The processes below one that have loaded torch, the deepest first."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if any("libtorch_cpu" in mapped.path for mapped in child.memory_maps()):
                found.append(child)
    return sorted(found, key=lambda one: -len(one.parents()))


def marked(mark: str) -> list[psutil.Process]:
    """All living processes that belong to a deployment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
