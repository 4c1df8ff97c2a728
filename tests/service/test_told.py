"""A signal handler tells the thread that waits."""

from __future__ import annotations

import signal
import threading
import time

from auditcore_service.told import Told


def test_a_wait_ends_with_the_signal_or_with_its_time() -> None:
    told = Told()
    before = signal.signal(signal.SIGUSR1, lambda *_: told.tell())
    try:
        assert not told.wait(0.01)
        threading.Timer(0.1, lambda: signal.raise_signal(signal.SIGUSR1)).start()
        began = time.monotonic()
        assert told.wait(30)
        assert time.monotonic() - began < 10
        assert told.times == 1
    finally:
        signal.signal(signal.SIGUSR1, before)
