"""A circuit breaker for several threads: a server that is down gets one request at a time, and rarely.

The breakers of libraries hold a lock during the request (pybreaker 1.4), so that requests cannot run in parallel.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import final


class Stopped(Exception):
    """The request was cancelled."""


@final
@dataclass(frozen=True)
class Passage:
    """Permission to send one request; its outcome must be reported to the breaker.

    Attributes:
        sent: Whether the request may be sent; if not, there is no outcome to report.
        failed: Probes by other requests that failed while this one waited.
        probe: Whether the other requests wait for this one.
    """

    sent: bool
    failed: int = 0
    probe: bool = False


@final
class Breaker:
    """Closed, it lets all requests pass. After several failures in a row it opens: all wait, then one is the probe.

    If the probe fails, all wait again; if it succeeds, all pass. A waiting request counts the probes of others as its
    own tries, so that all requests give up on a dead server together and few are sent to it.
    """

    def __init__(self, *, failures: int, pause_s: float) -> None:
        """Start closed.

        Args:
            failures: Failures in a row, over all threads, that open the breaker.
            pause_s: Time during which no request passes after that, and after every failed probe; in seconds.
        """
        self._most_failures = failures
        self._pause_s = pause_s
        self._changed = threading.Condition()
        self._in_a_row = 0
        self._open_until: float | None = None
        self._probing = False
        self._failed_probes = 0

    def enter(self, patience: int, stopped: threading.Event) -> Passage:
        """Wait until a request may be sent.

        Args:
            patience: Failed probes of others after which this request gives up; at least 1.
            stopped: Cancels the request when it is set and `wake` is called.

        Raises:
            Stopped: `stopped` is set.
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
        """Let waiting requests check whether they were cancelled."""
        with self._changed:
            self._changed.notify_all()

    def succeed(self) -> None:
        """Report an answer of the server: all requests may pass."""
        with self._changed:
            self._in_a_row = 0
            self._open_until = None
            self._probing = False
            self._changed.notify_all()

    def fail(self, passage: Passage) -> None:
        """Report that the server did not answer, or answered that it cannot."""
        with self._changed:
            self._in_a_row += 1
            if passage.probe and self._probing:
                self._failed_probes += 1
                self._probing = False
                self._open_until = time.monotonic() + self._pause_s
            elif self._open_until is None and self._in_a_row >= self._most_failures:
                self._open_until = time.monotonic() + self._pause_s
            # requests that were running when it opened do not make the others wait longer
            self._changed.notify_all()

    def release(self, passage: Passage) -> None:
        """Report no outcome; another request may be the probe."""
        if passage.probe:
            with self._changed:
                self._probing = False
                self._changed.notify_all()
