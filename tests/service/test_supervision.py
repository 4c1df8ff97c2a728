"""Children that do not end when they are asked to."""

from __future__ import annotations

import threading
import time

from auditcore_service.embedded.supervision import SupervisedProcess

DEAF = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]


def running(grace_s: float) -> SupervisedProcess:
    process = SupervisedProcess("deaf", DEAF, grace_s=grace_s)
    process.start()
    deadline = time.monotonic() + 30
    while process.pid is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def test_a_child_that_is_waited_for_can_still_be_ended_at_once() -> None:
    process = running(grace_s=600.0)
    stopping = threading.Thread(target=process.stop, daemon=True)
    stopping.start()
    stopping.join(0.3)
    assert stopping.is_alive()
    process.kill()
    stopping.join(30)
    assert not stopping.is_alive()
    assert process.pid is None
    assert process.starts == 1
