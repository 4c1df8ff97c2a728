"""The limit that makes too much memory an error of an audit, not the end of its process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from auditcore.devices import control_groups
from auditcore.devices.host_memory import available_bytes, total_bytes

TESTS = Path(__file__).parents[2]

TOO_LARGE = """
from torch import nn
import digits
from auditcore.contracts.checks import ComplexityCheck
from auditcore.contracts.explainers import Gradient
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.devices.host_memory import available_bytes, limit_memory
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.errors import MemoryExhausted
from auditcore.models.classifier import Classifier

task = ShardTask(AuditPlan(explainers=(Gradient(),), checks=(ComplexityCheck(),)), "compute", digits.encoded(2))

def audit(side_px):
    network = nn.Sequential(nn.Conv2d(3, 64, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2))
    classifier = Classifier(network, preprocessing=Preprocessing(resize=side_px, crop=side_px))
    return run_shard(task, Runtime(classifier))

audit(32)
data = int(next(line for line in open("/proc/self/status") if line.startswith("VmData:")).split()[1]) * 1024
assert limit_memory(data + 400 * 2**20)
assert available_bytes() <= 400 * 2**20
try:
    audit(1536)  # 600 MB for each layer, of one image
except MemoryExhausted as error:
    print(error.message)
print(len(audit(32).images), "images after it")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts all allocations")
def test_an_image_that_does_not_fit_fails_its_audit_and_the_process_goes_on() -> None:
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        [sys.executable, "-c", TOO_LARGE], check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    message, after = done.stdout.splitlines()
    assert "memory ran out for a single image; use a smaller input size" in message
    assert after == "2 images after it"


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(control_groups, "_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(control_groups, "_HIERARCHIES", tmp_path / "fs")
    return tmp_path


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("group", "files", "limit"),
    [
        ("0::/\n", {"memory.max": "5000000\n"}, 5_000_000),
        ("0::/a/b\n", {"a/memory.max": "3000000\n", "a/b/memory.max": "max\n"}, 3_000_000),
        ("0::/a/b\n", {"a/memory.max": "9000000\n", "a/b/memory.max": "4000000\n"}, 4_000_000),
        ("5:cpu:/\n4:memory:/host/path\n", {"memory/memory.limit_in_bytes": "6000000\n"}, 6_000_000),
    ],
)
def test_the_memory_of_a_container_is_that_of_its_smallest_limit(
    container: Path, group: str, files: dict[str, str], limit: int
) -> None:
    write(container / "cgroup", group)
    for name, text in files.items():
        write(container / "fs" / name, text)
    assert total_bytes() == limit
    # what this process holds already is more
    assert available_bytes() == 0


def test_without_a_container_the_memory_is_that_of_the_machine(container: Path) -> None:
    machine = total_bytes()
    write(container / "cgroup", "0::/\n")
    write(container / "fs" / "memory.max", "max\n")
    assert total_bytes() == machine
    assert 0 < available_bytes() < machine
