"""What a busy neighbor costs: the same audit on quiet cores and beside a process that takes one of them.

`PYTHONPATH=tests .venv/bin/python -m benchmarks.neighbors`. An audit of the demo model runs again and again in a
process with the environment of a compute process, in turns with and without a neighbor; then the same with threads that
spin while they wait, which is the default of libgomp. The smallest time of each counts. Run it on an idle machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from auditcore.devices.cpu_share import threads_of_worker, usable_cpus
from auditcore_service.worker.compute_environment import WAITING

ROUNDS, PHOTOS = 3, 4

NEIGHBOR = "while True: pass"
"""A program that takes all of one core."""

SPINNING: dict[str, str | None] = dict.fromkeys(WAITING)
"""The environment without what makes threads wait passively."""


def measure(rounds: int = ROUNDS, photos: int = PHOTOS) -> list[dict[str, Any]]:
    """One row for threads that wait passively, as workers have them, and one for threads that spin."""
    return [
        {"threads": threads_of_worker(1), "cpus": usable_cpus(), "waiting": name, **_seconds(changes, rounds, photos)}
        for name, changes in (("passive", WAITING), ("spinning", SPINNING))
    ]


def _seconds(changes: Mapping[str, str | None], rounds: int, photos: int) -> dict[str, float]:
    """Smallest seconds of an audit, quiet and beside a neighbor, and their ratio."""
    environment = {**os.environ, **changes}
    environment = {name: value for name, value in environment.items() if value is not None}
    environment.pop("OMP_NUM_THREADS", None)
    found: dict[str, list[float]] = {"quiet": [], "beside": []}
    command = [sys.executable, "-m", "benchmarks.neighbors", str(photos)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as auditing:
        assert auditing.stdin is not None
        assert auditing.stdout is not None
        auditing.stdout.readline()
        for _ in range(rounds):
            for name, seconds in found.items():
                neighbor = subprocess.Popen([sys.executable, "-c", NEIGHBOR]) if name == "beside" else None
                auditing.stdin.write("again\n")
                auditing.stdin.flush()
                seconds.append(float(auditing.stdout.readline()))
                if neighbor is not None:
                    neighbor.kill()
                    neighbor.wait()
        auditing.stdin.close()
    quiet, beside = (min(seconds) for seconds in found.values())
    return {"quiet_s": quiet, "beside_s": beside, "ratio": beside / quiet}


def _audit_again_and_again(photos: int) -> None:
    """Audit once for each line of the standard input, and print the seconds."""
    import torch  # noqa: PLC0415 - only this process computes

    from auditcore.contracts.augmentations import Rotate  # noqa: PLC0415 - as above
    from auditcore.contracts.checks import DeletionCheck, SweepCheck  # noqa: PLC0415 - as above
    from auditcore.contracts.explainers import GradCam, Gradient  # noqa: PLC0415 - as above
    from auditcore.contracts.plan import AuditPlan  # noqa: PLC0415 - as above
    from auditcore.devices.allocator import keep_freed_memory  # noqa: PLC0415 - as above
    from auditcore.engine.shard import run_shard  # noqa: PLC0415 - as above
    from auditcore.engine.shard_task import Runtime, ShardTask  # noqa: PLC0415 - as above
    from benchmarks import subjects  # noqa: PLC0415 - as above

    keep_freed_memory()
    torch.set_num_threads(threads_of_worker(1))
    plan = AuditPlan(
        explainers=(Gradient(), GradCam()),
        checks=(
            SweepCheck(augmentations=(Rotate(interval=(-30, 30)),), levels=9),
            DeletionCheck(grid=7, repeats=2),
        ),
    )
    classifier = subjects.load("demo", "cpu")
    task = ShardTask(plan=plan, wave="compute", images=subjects.photos(photos))

    def audit() -> float:
        started = time.perf_counter()
        run_shard(task, Runtime(classifier, micro_batch=8))
        return time.perf_counter() - started

    audit()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        sys.stdout.write(f"{audit()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _audit_again_and_again(int(sys.argv[1]))
    else:
        sys.stdout.write(json.dumps(measure(), indent=2) + "\n")
