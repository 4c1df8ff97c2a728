"""Numbers that one process of a test run computes and all others read."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from auditcore.contracts.canonical_json import sha256

FOLDER = "AUDITCORE_TEST_RUN"
"""Variable of the environment with the folder of the run. Processes that pytest-xdist starts inherit it."""


def begin(config: pytest.Config) -> None:
    """Make the folder of this run, which goes with it."""
    if hasattr(config, "workerinput"):  # a process of a run that has begun
        return
    folder = tempfile.mkdtemp(prefix="auditcore-tests-")
    os.environ[FOLDER] = folder
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def once_a_run(key: str, compute: Callable[[], str]) -> str:
    """Text that `compute` gives, from whichever process asked first; the others wait for it.

    Args:
        key: What the text depends on.
        compute: Called once a run, unless it raises.
    """
    folder = os.environ.get(FOLDER)
    if folder is None:  # a benchmark, which is no run of pytest
        return compute()
    path = Path(folder) / sha256(key.encode()).removeprefix("sha256:")
    with FileLock(f"{path}.lock"):
        if not path.exists():
            text = compute()
            path.write_text(text, encoding="utf-8")
        return path.read_text(encoding="utf-8")
