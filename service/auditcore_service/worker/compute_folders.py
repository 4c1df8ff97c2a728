"""The folder of a compute process: where it may write, and what its worker gives it to read."""

from __future__ import annotations

from pathlib import Path
from typing import final

from auditcore_service.worker.locked_folders import MODE, LockedFolder, base_of


@final
class ComputeFolder:
    """A new private folder, removed by `remove`, or by the next worker of this user if this one is killed.

    What the worker writes is apart from what the compute process writes: a link that code of a model makes never leads
    the worker elsewhere.

    Attributes:
        own: Working folder of the compute process, also for its temporary files.
        files: Files that the worker has fetched.
        models: Folders of models of registries that the worker has fetched.
    """

    def __init__(self, inside: Path | None = None) -> None:
        """Make the folder, and remove those of workers that are gone.

        Args:
            inside: Folder for the folders of all workers; below the one for temporary files if None.

        Raises:
            PermissionError: That folder belongs to another user.
        """
        self._folder = LockedFolder(base_of("compute") if inside is None else inside)
        self.own, self.files, self.models = (self._folder.path / name for name in ("own", "files", "models"))
        for folder in (self.own, self.files, self.models):
            folder.mkdir(mode=MODE)

    def remove(self) -> None:
        """Remove everything; the compute process has ended."""
        self._folder.remove()
