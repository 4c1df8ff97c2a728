"""A circuit breaker for several threads: a server that is down is asked by one request at a time, and rarely.

Breakers of libraries hold a lock while the request is under way (pybreaker 1.4), so that only one ever is.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import final


class Stopped(Exception):
    """The request is no longer wanted."""


@final
@dataclass(frozen=True)
class Passage:
    """Leave to send one request; what came of it must be told to the breaker.

    Attributes:
        sent: Whether it was given. Without it the request has nothing to tell.
        failed: Probes of others that failed while this request waited.
        probe: Whether the others wait for this one.
    """

    sent: bool
    failed: int = 0
    probe: bool = False


@final
class Breaker:
    """Closed, all requests pass. After some failures in a row it opens, and all wait; then one of them is the probe.

    If the probe fails, all wait again; if it succeeds, all pass. A request that waits counts the probes of others as
    tries of its own, so that all give up on a dead server together and few requests are sent to it.
    """

    def __init__(self, *, failures: int, pause_s: float) -> None:
        """Begin closed.

        Args:
            failures: In a row, over all threads, that open it.
            pause_s: How long nothing passes then, and after every probe that failed.
        """
        self._most_failures = failures
        self._pause_s = pause_s
        self._changed = threading.Condition()
        self._in_a_row = 0
        self._open_until: float | None = None
        self._probing = False
        self._failed_probes = 0

    def enter(self, patience: int, stopped: threading.Event) -> Passage:
        """Wait until the server may be asked.

        Args:
            patience: Failed probes of others after which this request gives up; at least 1.
            stopped: Set, with `wake`, when the request is no longer wanted.

        Raises:
            Stopped: It is set.
        """
        with self._changed:
            before = self._failed_probes
            while True:
                if stopped.is_set():
                    raise Stopped
                failed = self._failed_probes - before
                if self._open_until is None:
                    return Passage(sent=True, failed=failed)
                if failed >= patience:
                    return Passage(sent=False, failed=failed)
                left_s = self._open_until - time.monotonic()
                if left_s <= 0 and not self._probing:
                    self._probing = True
                    return Passage(sent=True, failed=failed, probe=True)
                self._changed.wait(None if self._probing else left_s)

    def wake(self) -> None:
        """Let those that wait see whether they are still wanted."""
        with self._changed:
            self._changed.notify_all()

    def succeed(self) -> None:
        """The server answered, so all may pass."""
        with self._changed:
            self._in_a_row = 0
            self._open_until = None
            self._probing = False
            self._changed.notify_all()

    def fail(self, passage: Passage) -> None:
        """The server did not answer, or said that it cannot."""
        with self._changed:
            self._in_a_row += 1
            if passage.probe and self._probing:
                self._failed_probes += 1
                self._probing = False
                self._open_until = time.monotonic() + self._pause_s
            elif self._open_until is None and self._in_a_row >= self._most_failures:
                self._open_until = time.monotonic() + self._pause_s
            # requests that were under way when it opened do not make the others wait longer
            self._changed.notify_all()

    def release(self, passage: Passage) -> None:
        """Nothing was found out about the server; another may be the probe."""
        if passage.probe:
            with self._changed:
                self._probing = False
                self._changed.notify_all()
