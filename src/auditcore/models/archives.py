"""Read TorchServe model archives (`.mar`), zip files with a manifest, without running any code in them."""

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
from auditcore.models.zip_files import refusing_damage

FIELD = "model.uri"

MOST_ENTRIES = 10_000
MOST_JSON_BYTES = 2**20
"""Largest size of the manifest and of the description."""


@final
class Archive:
    """An archive whose directory has been checked and is safe to read.

    Attributes:
        path: The file.
        manifest: Its manifest.
        description: Its architecture, if it was written by `auditcore mar`.
    """

    def __init__(self, path: Path, *, limit_bytes: int) -> None:
        """Read the directory and the manifest; no file is extracted yet.

        Args:
            path: The archive.
            limit_bytes: Limit of the uncompressed size of all files together.

        Raises:
            ModelNotLoadable: The file is not an archive, or is damaged.
            UnsafeReference: An entry points outside the archive, is a link, is encrypted, or occurs twice.
            LimitExceeded: It has too many entries or too many bytes.
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
                msg = f"the archive's {MANIFEST} or {DESCRIPTION} is invalid ({where}: {first['msg']}); write it again"
                raise ModelNotLoadable(msg, field=FIELD) from error

    @contextmanager
    def extracted(self, names: Sequence[str]) -> Iterator[Mapping[str, Path]]:
        """Extract some files of the archive into a private folder, which is removed afterwards.

        Raises:
            ModelNotLoadable: A file is missing or damaged.
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
            msg = f"the archive has no file {name!r}, which its manifest names; write it again"
            raise ModelNotLoadable(msg, field=FIELD)
        # names were checked to stay inside the archive; the folder is new and private
        path = folder.joinpath(*PurePosixPath(name).parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            path.open("xb") as target,
            refusing_damage(_damaged(name), field=FIELD),
            archive.open(self._entries[name]) as source,
        ):
            shutil.copyfileobj(source, target)
        return path

    def _small(self, archive: zipfile.ZipFile, name: str) -> bytes:
        if name not in self._entries:
            msg = f"the file has no {name}, so it is not a model archive; write one with torch-model-archiver"
            raise ModelNotLoadable(msg, field=FIELD)
        if self._entries[name].file_size > MOST_JSON_BYTES:
            size = self._entries[name].file_size
            raise LimitExceeded(what=name, limit=MOST_JSON_BYTES, actual=size, unit="bytes", field=FIELD)
        with refusing_damage(_damaged(name), field=FIELD):
            return archive.read(self._entries[name])

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        with refusing_damage("the file is not a model archive: {}; write one with torch-model-archiver", field=FIELD):
            archive = zipfile.ZipFile(self.path)
        with archive:
            yield archive


def _damaged(name: str) -> str:
    # the name is the sender's, and braces in it are no place for the reason
    shown = repr(name).replace("{", "{{").replace("}", "}}")
    return f"{shown} of the archive is damaged ({{}}); upload it again"


def _checked(entries: Sequence[zipfile.ZipInfo], *, limit_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """Return the entries by name; refuse entries that point outside the archive."""
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
            reason = "points outside the archive"
        elif stat.S_ISLNK(mode):
            reason = "is a link"
        elif entry.flag_bits & 0x1:
            reason = "is encrypted"
        elif name.casefold() in folded:
            reason = "occurs twice"
        if reason is not None:
            msg = f"entry {name[:200]!r} of the archive {reason}; write the archive again"
            raise UnsafeReference(msg, field=FIELD)
        folded.add(name.casefold())
        if name and not entry.is_dir():
            found[name] = entry
    return found
