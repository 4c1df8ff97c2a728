"""Kernels for CUDA give what the functions on the CPU give; Triton's interpreter runs them without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "interpreted_kernels.py"


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton comes with torch for CUDA on Linux only")
@pytest.mark.parametrize(
    "part",
    [pytest.param("comparison", marks=pytest.mark.long), "uniform", pytest.param("normal", marks=pytest.mark.long)],
)
def test_kernels_give_what_they_replace(part: str) -> None:
    command = [sys.executable, str(SCRIPT), part]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
