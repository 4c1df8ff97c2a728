"""How a signal handler tells the thread that it has interrupted."""

from __future__ import annotations

import time
from typing import final

LOOK_S = 0.05
"""How often the thread looks. A signal that comes just before it begins to sleep does not wake it."""


@final
class Told:
    """Counts what a handler says.

    A `threading.Event` is not for this: the interrupted thread may hold its lock, and then both wait for ever.

    Attributes:
        times: How often it was told.
    """

    def __init__(self) -> None:
        self.times = 0

    def tell(self) -> None:
        """Tell it; to be called in a handler."""
        self.times += 1

    def wait(self, seconds: float = float("inf")) -> bool:
        """Wait until it is told, or for a time; whether it was told."""
        deadline = time.monotonic() + seconds
        while not self.times:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, LOOK_S))
        return True
