"""Another version of the service, taken from the history of this repository."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

from chaos.deployment import TESTS
from chaos.service_process import ServiceProcess

REPOSITORY = TESTS.parent
MIGRATIONS = "service/auditcore_service/store/migrations/versions"


def earlier_version() -> str | None:
    """The commit to upgrade from: `CHAOS_BASE`, the last tag, or the one before the newest change of the tables.

    None in a clone without history.
    """
    given = os.environ.get("CHAOS_BASE") or _git("describe", "--tags", "--abbrev=0")
    if not given:
        changed = _git("log", "-1", "--format=%H", "--", MIGRATIONS)
        given = f"{changed}~1" if changed else None
    return _git("rev-parse", "--verify", "--quiet", f"{given}^{{commit}}") if given else None


def unpack(commit: str, folder: Path) -> Path:
    """The source of a commit below a folder."""
    folder.mkdir(parents=True)
    archive = folder / "source.tar"
    subprocess.run(
        ["git", "-C", REPOSITORY, "archive", "-o", archive, commit, "src", "service"], check=True, capture_output=True
    )
    with tarfile.open(archive) as source:
        source.extractall(folder, filter="data")
    archive.unlink()
    return folder


def use(process: ServiceProcess, source: Path) -> None:
    """Have a process run the code below a folder at its next start."""
    paths = (source / "src", source / "service", TESTS)
    process.environment["PYTHONPATH"] = os.pathsep.join(str(path) for path in paths)


def _git(*command: str) -> str | None:
    done = subprocess.run(["git", "-C", REPOSITORY, *command], check=False, capture_output=True, text=True)
    return done.stdout.strip() or None
