"""A process that is tied to another ends with it, whatever it is doing."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

CHILD = """
import sys, time
from auditcore_service.tethered import tie
tie(int(sys.argv[1]), 9)
print("tied", flush=True)
time.sleep(60)
"""
PARENT = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}, str(os.getpid())], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")


def test_a_child_dies_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    _, alive = psutil.wait_procs([child], timeout=10)
    assert alive == []


def test_a_child_whose_parent_has_already_died_dies_immediately() -> None:
    somebody_else = "1"
    done = subprocess.run([sys.executable, "-c", CHILD, somebody_else], check=False, stdout=subprocess.PIPE)
    assert done.returncode == -9
    assert not done.stdout
