"""What software and hardware computed a shard, for the report's manifest."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from auditcore.contracts.speed import Speed

PACKAGES = ("auditcore", "torch", "torchvision", "zennit", "timm", "numpy", "scipy", "pillow")

PRECISIONS = {
    "fp32": "float32",
    "tf32": "float32, products in TF32",
    "bf16": "bfloat16 autocast, other products in TF32",
}
ON_A_CPU = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16 autocast"}


def describe_environment(device: torch.device, speed: Speed | None = None) -> dict[str, str]:
    """Versions, device, precision and determinism settings, as plain text."""
    speed = speed or Speed()
    found = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    found["threads"] = str(torch.get_num_threads())
    found["precision"] = PRECISIONS[speed.precision] if device.type == "cuda" else ON_A_CPU[speed.precision]
    if speed.compile:
        found["compiled"] = "torch.compile"
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["cuda"] = str(torch.version.cuda)
        found["cudnn"] = str(torch.backends.cudnn.version())
        found["tf32"] = f"matmul={torch.backends.cuda.matmul.allow_tf32} cudnn={torch.backends.cudnn.allow_tf32}"
    found["deterministic_algorithms"] = str(torch.are_deterministic_algorithms_enabled())
    return found
