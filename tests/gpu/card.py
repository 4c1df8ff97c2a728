"""Which machine and which versions a run on a GPU had."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import torch

from benchmarks import machine

ROOT = Path(__file__).parents[2]


def describe(device: torch.device) -> dict[str, object]:
    """Machine, versions, card, driver and commit, as far as each can be found out."""
    found: dict[str, object] = {
        "date": machine.today(),
        "commit": _answer("git", "-C", str(ROOT), "rev-parse", "HEAD"),
        "machine": machine.describe_machine(device),
        "versions": machine.describe_versions(device),
        "nvidia_smi": _answer("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"),
    }
    if device.type == "cuda":
        found["card"] = {
            "name": torch.cuda.get_device_name(device),
            "capability": ".".join(map(str, torch.cuda.get_device_capability(device))),
        }
    return found


def _answer(program: str, *arguments: str) -> str | None:
    """What a program prints; None if it is not there or fails."""
    if shutil.which(program) is None:
        return None
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
