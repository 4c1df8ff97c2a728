"""On which machine, when and with which versions a benchmark ran."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from auditcore.engine.environment import describe_environment

CPU_INFO = Path("/proc/cpuinfo")
PEERS = ("captum", "quantus", "scikit-image")


def describe_machine(device: torch.device) -> dict[str, str | int | bool]:
    """Processor, cores, threads, memory; on CUDA the card and whether TF32 is allowed."""
    found: dict[str, str | int | bool] = {
        "device": str(device),
        "processor": processor(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "load_average_at_start": f"{os.getloadavg()[0]:.2f}",
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found |= {
            "card": card.name,
            "card_memory_bytes": card.total_memory,
            "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
            "tf32_cudnn": torch.backends.cudnn.allow_tf32,
        }
    return found


def describe_versions(device: torch.device) -> dict[str, str]:
    """What a report's manifest says, and the tools compared with."""
    return describe_environment(device) | {package: _version(package) for package in PEERS}


def today() -> str:
    """Date and time of the run, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """Name of the processor."""
    if CPU_INFO.exists():
        for line in CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
