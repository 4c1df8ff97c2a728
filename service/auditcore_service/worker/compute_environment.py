"""The environment variables of a compute process: a list of what it may have, never what a worker happens to have."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

NAMES = frozenset(
    {
        "PATH",
        "LANG",
        "LANGUAGE",
        "TZ",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "PYTHONHASHSEED",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONWARNINGS",
        # certificates of the operator's own authority, for servers of models
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    }
)
"""Variables that a compute process has as its worker has them."""

PREFIXES = (
    "LC_",
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "OPENBLAS_",
    "MALLOC_",
    "CUDA_",
    "CUBLAS_",
    "CUDNN_",
    "NVIDIA_",
    "TORCH_",
    "TORCHINDUCTOR_",
    "PYTORCH_",
    "TRITON_",
)
"""Beginnings of further names, of the libraries that compute."""

WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
"""A thread that waits for the others of its parallel region gives its processor away. By default it spins, which takes
time from the thread that it waits for as soon as another process runs on the same processors. PyTorch's wheels bring
libgomp, or on some systems libomp."""

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""The worker fetches what a request names; nothing else is fetched."""


CACHES = ("CUDA_CACHE_PATH", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
"""Variables that name folders of compiled kernels, which an operator may want to keep."""


def writable_caches(given: Mapping[str, str]) -> dict[str, Path]:
    """The folders of compiled kernels that can be written, by the variables that name them; made if they are missing.

    The compute process cannot make them, since it may write nowhere else. Importing torch fails if it is told of one
    that cannot be written, as in a container whose root is read-only and that has no volume for them.
    """
    found = {}
    for name in CACHES:
        if folder := given.get(name):
            with suppress(OSError):
                Path(folder).mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                found[name] = Path(folder)
    return found


def compute_environment(given: Mapping[str, str], *, also: Iterable[str], folder: Path) -> dict[str, str]:
    """The whole environment of a compute process.

    Args:
        given: That of the worker.
        also: Further names that the operator wants code of models to see.
        folder: Its own folder, for everything that programs write below a home or for a moment.
    """
    wanted = NAMES | set(also)
    caches = writable_caches(given)
    kept = {
        name: value
        for name, value in given.items()
        if (name in wanted or name.startswith(PREFIXES)) and (name not in CACHES or name in caches)
    }
    # an empty entry means the working folder, which is another one there
    paths = [str(Path(entry or ".").absolute()) for entry in sys.path]
    kernels = Path.home() / ".nv" / "ComputeCache"
    return {
        **WAITING,
        # a home of its own would make each process compile kernels of the card again
        **({"CUDA_CACHE_PATH": str(kernels)} if kernels.is_dir() else {}),
        **kept,
        **_OFFLINE,
        "PYTHONPATH": os.pathsep.join(paths),
        "HOME": str(folder),
        "TMPDIR": str(folder),
    }
