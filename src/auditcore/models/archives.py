"""TorchServe model archives (`.mar`): a zip with a manifest; read without running anything in it, and written."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import final

from pydantic import ValidationError

from auditcore.contracts.archives import (
    DESCRIPTION,
    MANIFEST,
    ArchiveDescription,
    ArchiveManifest,
)
from auditcore.errors import LimitExceeded, ModelNotLoadable, UnsafeReference

FIELD = "model.uri"

MOST_ENTRIES = 10_000
MOST_JSON_BYTES = 2**20
"""Of the manifest and of the description."""


@final
class Archive:
    """An archive that is safe to read.

    Attributes:
        path: The file.
        manifest: What it says of itself.
        description: What it says of its architecture, if it was written by `auditcore mar`.
    """

    def __init__(self, path: Path, *, limit_bytes: int) -> None:
        """Look at the directory and the manifest; no file is extracted yet.

        Args:
            path: The archive.
            limit_bytes: Most bytes of all files together, uncompressed.

        Raises:
            ModelNotLoadable: It is no archive, or a damaged one.
            UnsafeReference: An entry leads out of the archive, is a link, encrypted, or there twice.
            LimitExceeded: It holds too much.
        """
        self.path = path
        with self._opened() as archive:
            self._entries = _checked(archive.infolist(), limit_bytes=limit_bytes)
            try:
                self.manifest = ArchiveManifest.model_validate_json(self._small(archive, MANIFEST))
                described = DESCRIPTION in self._entries
                self.description = (
                    ArchiveDescription.model_validate_json(self._small(archive, DESCRIPTION)) if described else None
                )
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                msg = f"the archive's {MANIFEST} or {DESCRIPTION} is not valid ({where}: {first['msg']}); write it anew"
                raise ModelNotLoadable(msg, field=FIELD) from error

    @contextmanager
    def extracted(self, names: Sequence[str]) -> Iterator[Mapping[str, Path]]:
        """Some files of the archive in a private folder, which is removed afterwards.

        Raises:
            ModelNotLoadable: The archive has no such file, or it is damaged.
        """
        folder = Path(tempfile.mkdtemp(prefix="auditcore-mar-"))
        try:
            with self._opened() as archive:
                paths = {name: self._extract(archive, name, folder) for name in names}
            yield paths
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _extract(self, archive: zipfile.ZipFile, name: str, folder: Path) -> Path:
        if name not in self._entries:
            msg = f"the archive has no file {name!r}, which its manifest names; write it anew"
            raise ModelNotLoadable(msg, field=FIELD)
        # names were checked not to lead out; the folder is new and ours
        path = folder.joinpath(*PurePosixPath(name).parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with archive.open(self._entries[name]) as source, path.open("xb") as target:
                shutil.copyfileobj(source, target)
        except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
            msg = f"{name!r} of the archive is damaged ({error}); upload it again"
            raise ModelNotLoadable(msg, field=FIELD) from error
        return path

    def _small(self, archive: zipfile.ZipFile, name: str) -> bytes:
        if name not in self._entries:
            msg = f"the file has no {name}, so it is no model archive; write one with torch-model-archiver"
            raise ModelNotLoadable(msg, field=FIELD)
        if self._entries[name].file_size > MOST_JSON_BYTES:
            size = self._entries[name].file_size
            raise LimitExceeded(what=name, limit=MOST_JSON_BYTES, actual=size, unit="bytes", field=FIELD)
        return archive.read(self._entries[name])

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        try:
            archive = zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            msg = f"the file is no model archive: {error}; write one with torch-model-archiver"
            raise ModelNotLoadable(msg, field=FIELD) from error
        with archive:
            yield archive


def _checked(entries: Sequence[zipfile.ZipInfo], *, limit_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """Entries by name, none of which leads anywhere else."""
    if len(entries) > MOST_ENTRIES:
        raise LimitExceeded(what="the archive", limit=MOST_ENTRIES, actual=len(entries), unit="entries", field=FIELD)
    size = sum(entry.file_size for entry in entries)
    if size > limit_bytes:
        raise LimitExceeded(what="the archive, unpacked,", limit=limit_bytes, actual=size, unit="bytes", field=FIELD)
    found: dict[str, zipfile.ZipInfo] = {}
    folded: set[str] = set()
    for entry in entries:
        # the name as it was written: on some systems zipfile turns backslashes into slashes
        name = entry.orig_filename
        parts = PurePosixPath(name).parts
        mode = entry.external_attr >> 16
        reason = None
        if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or (parts and ":" in parts[0]):
            reason = "leads out of the archive"
        elif stat.S_ISLNK(mode):
            reason = "is a link"
        elif entry.flag_bits & 0x1:
            reason = "is encrypted"
        elif name.casefold() in folded:
            reason = "is there twice"
        if reason is not None:
            msg = f"entry {name[:200]!r} of the archive {reason}; write it anew"
            raise UnsafeReference(msg, field=FIELD)
        folded.add(name.casefold())
        if not entry.is_dir():
            found[name] = entry
    return found
