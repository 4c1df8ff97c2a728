"""How the process that computes learns that its worker is told to stop."""

from __future__ import annotations

import time
from pathlib import Path
from typing import final


@final
class StopRequest:
    """A file that appears when a worker is told to stop.

    The process that the signal reaches is not the one that computes: Celery and billiard keep a pool between them, and
    replace its processes. A file reaches also one that starts later, and needs nothing of the pool.
    """

    def __init__(self, file: Path | None = None) -> None:
        """Name the file.

        Args:
            file: Does not exist yet; None for a process that is never told.
        """
        self._file = file
        self._since: float | None = None

    def make(self) -> None:
        """Tell it. Safe in a signal handler."""
        if self._file is not None:
            self._file.touch()

    def is_made(self) -> bool:
        """Whether the worker is told to stop."""
        if self._since is None and self._file is not None and self._file.exists():
            self._since = time.monotonic()
        return self._since is not None

    def age_s(self) -> float:
        """Seconds since this process first saw it; 0 until then."""
        return time.monotonic() - self._since if self.is_made() and self._since is not None else 0.0

    def wait(self, seconds: float) -> bool:
        """Wait for a time, or until the worker is told to stop; whether it is."""
        deadline = time.monotonic() + seconds
        while not self.is_made():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, 0.1))
        return True
