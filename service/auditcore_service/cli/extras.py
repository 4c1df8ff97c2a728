"""The optional dependencies that a command needs, and how to install them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final, final


@final
@dataclass(frozen=True)
class Extra:
    """One extra of the package.

    Attributes:
        name: As in `pip install 'auditcore[NAME]'`.
        modules: Modules that are importable only where it is installed.
        megabytes: Size of a fresh environment with it, in MB (10^6 bytes), measured on Linux for x86-64.
        cpu_megabytes: The same with the CPU build of torch; None without torch.
    """

    name: str
    modules: tuple[str, ...]
    megabytes: int
    cpu_megabytes: int | None = None


CLIENT: Final = Extra("client", ("typer", "rich", "httpx", "tenacity", "httpx_sse"), 22)
_GATE: Final = Extra("gate", (*CLIENT.modules, "numpy", "scipy", "jaxtyping"), 195)
_MLFLOW: Final = Extra("mlflow", (*CLIENT.modules, "mlflow"), 87)
_EVIDENCE: Final = Extra("evidence", (*CLIENT.modules, "securesystemslib", "cryptography"), 49)
_GATEWAY: Final = Extra(
    "gateway", ("pydantic_settings", "sqlalchemy", "celery", "fastapi", "securesystemslib", "joserfc", "scipy"), 285
)
# The CPU build has neither CUDA's libraries (3.0 GB), nor Triton (1.0 GB), nor the CUDA half of torch (0.5 GB).
_WORKER: Final = Extra("worker", ("pydantic_settings", "sqlalchemy", "celery", "torch"), 5600, 1100)
_EMBEDDED: Final = Extra("embedded", ("fastapi", "joserfc", *_WORKER.modules), 5600, 1100)
_DEMO: Final = Extra("demo", ("efficientnet_lite_pytorch", "skimage", "sklearn", *_EMBEDDED.modules), 5700, 1200)

EXTRAS: Final[Mapping[str, Extra]] = {
    "serve": _EMBEDDED,
    "gateway": _GATEWAY,
    "worker": _WORKER,
    "tenants": _GATEWAY,
    "collect": _GATEWAY,
    "audit": _WORKER,
    "train": _WORKER,
    "submit": CLIENT,
    "list": CLIENT,
    "status": CLIENT,
    "watch": CLIENT,
    "report": CLIENT,
    "cancel": CLIENT,
    "maps": CLIENT,
    "ci": CLIENT,
    "mlflow": _MLFLOW,
    "gate": _GATE,
    "policy": CLIENT,
    "keys": _GATEWAY,
    "estimate": _GATEWAY,
    "inspect": _WORKER,
    "study": _WORKER,
    "measure": _WORKER,
    "remediate": _WORKER,
    "demo": _DEMO,
    "synthetic": _WORKER,
    "mar": _WORKER,
    "verify": _EVIDENCE,
    "verify-log": _EVIDENCE,
    "signing-key": _EVIDENCE,
    "openapi": _GATEWAY,
}
"""Command -> the smallest extra that it runs with. With `--url`, `estimate` and `inspect` need only `client`."""


def missing_extra(extra: Extra) -> str | None:
    """What is missing and how to install it, in a few lines; None if all modules are there. Imports none of them."""
    missing = [module for module in extra.modules if find_spec(module) is None]
    if not missing:
        return None
    install = f"pip install 'auditcore[{extra.name}]'"
    needed = f"the extra `{extra.name}` is not installed (missing: {', '.join(missing)}); install it with:\n"
    if extra.cpu_megabytes is None:
        return f"{needed}  {install}    # {extra.megabytes} MB"
    return (
        f"{needed}"
        f"  {install}    # on Linux {extra.megabytes / 1000:.1f} GB, because torch brings the libraries of CUDA\n"
        f"  uv {install} --torch-backend cpu    # {extra.cpu_megabytes / 1000:.1f} GB, for machines without a GPU"
    )
