"""Experiments whose stages are interrupted in every way there is, for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from auditcore.contracts.experiments.stage import Stage
from auditcore.errors import AuditCancelled, WorkInterrupted
from auditcore.experiments.running import StagedRun
from auditcore.kept_files import KeptFolder


class PowerFailure(Exception):
    """The process ends at once."""


class DyingFolder:
    """Kept files in a folder; the process that keeps them ends after each change that no process before it has made.

    Attributes:
        changes: The changes that were made so far, by all processes.
    """

    def __init__(self, path: Path, changes: set[tuple[str, str]]) -> None:
        self.folder, self.changes = KeptFolder(path), changes

    def read(self, name: str) -> bytes | None:
        return self.folder.read(name)

    def keep(self, name: str, data: bytes) -> None:
        self.folder.keep(name, data)
        self._changed("keep", name)

    def forget(self, name: str) -> None:
        self.folder.forget(name)
        self._changed("forget", name)

    def uri(self, name: str) -> str:
        return self.folder.uri(name)

    def _changed(self, how: str, name: str) -> None:
        if (how, name) not in self.changes:
            self.changes.add((how, name))
            raise PowerFailure


def finish(run: StagedRun, stages: Sequence[Stage]) -> None:
    """Do all stages without an interruption."""
    for stage in stages:
        run.run(stage, progress=lambda _share: None, enough=lambda: False)


def die_everywhere(
    open_run: Callable[[DyingFolder], StagedRun], stages: Sequence[Stage], folder: Path
) -> set[tuple[str, str]]:
    """Do all stages in one process after the other; each ends after the first change of a file that is new.

    Returns:
        The changes, which are moments at which a process has ended.
    """
    changes: set[tuple[str, str]] = set()
    while True:
        try:
            finish(open_run(DyingFolder(folder, changes)), stages)
        except PowerFailure:
            continue
        return changes


def stop_everywhere(open_run: Callable[[], StagedRun], stages: Sequence[Stage]) -> list[str]:
    """Do every stage in a process of its own, which is told at the first question that it is enough, and once more.

    Returns:
        Names of the stages that were interrupted.
    """
    interrupted = []
    for stage in stages:
        try:
            open_run().run(stage, progress=lambda _share: None, enough=lambda: True)
        except WorkInterrupted:
            interrupted.append(stage.name)
            open_run().run(stage, progress=lambda _share: None, enough=lambda: False)
    return interrupted


def abandon_everywhere(open_run: Callable[[], StagedRun], stages: Sequence[Stage]) -> list[str]:
    """Do every stage in a process of its own, which gives up in the middle of it, and once more.

    Returns:
        Names of the stages that were given up.
    """

    def give_up(share: float) -> None:
        if share >= 0.4:
            raise AuditCancelled

    abandoned = []
    for stage in stages:
        try:
            open_run().run(stage, progress=give_up, enough=lambda: False)
        except AuditCancelled:
            abandoned.append(stage.name)
            open_run().run(stage, progress=lambda _share: None, enough=lambda: False)
    return abandoned


def files_of(folder: Path) -> set[str]:
    """Names of all files in a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
