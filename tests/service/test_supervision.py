"""Children that do not end when they are asked to."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from auditcore_service.embedded.supervision import SupervisedProcess

DEAF = "trap '' TERM; touch ready; while :; do sleep 0.1; done"


def test_a_child_that_is_waited_for_can_still_be_ended_at_once(tmp_path: Path) -> None:
    process = SupervisedProcess("deaf", ["/bin/sh", "-c", f"cd {tmp_path}; {DEAF}"], grace_s=600.0)
    process.start()
    deadline = time.monotonic() + 30
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    stopping = threading.Thread(target=process.stop, daemon=True)
    stopping.start()
    stopping.join(0.3)
    assert stopping.is_alive()
    process.kill()
    stopping.join(10)
    assert not stopping.is_alive()
    assert process.pid is None
    assert process.starts == 1
