"""Image batches: bytes in, content addresses out. Images are not decoded here; limits are checked before reading."""

from __future__ import annotations

import io
import re
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, BinaryIO, final

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.images import NAME_LENGTH, BatchEntry, BatchManifest, InlineImage, file_name, inline_manifest
from auditcore.errors import LimitExceeded
from auditcore_service.settings import Settings
from auditcore_service.store.batches import find_batch, insert_batch
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.use_cases.annotations import read_boxes, read_labels
from auditcore_service.use_cases.refusals import InvalidUpload, NotFound

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NESTED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
_END_RECORD = struct.Struct("<4s4H2LH")
_END_RECORD_REACH = _END_RECORD.size + 0xFFFF
_ZIP64_LOCATOR_BYTES = 20
_DIRECTORY_BYTES_AN_ENTRY = 1024
"""Space for a long name and the usual extra fields; the directory becomes objects in memory, so its size is limited."""


@final
@dataclass(frozen=True)
class UploadedFile:
    """One file of an upload, not yet read.

    Attributes:
        name: Name given by the sender.
        stream: Its contents.
        field: Its field in the upload, for messages.
    """

    name: str
    stream: BinaryIO
    field: str


@final
@dataclass(frozen=True)
class _Image:
    name: str
    data: bytes
    field: str


@final
class ImageBatches:
    """The use cases of image batches."""

    def __init__(
        self, settings: Settings, *, database: Database, blobs: BlobStore, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._clock = clock

    def store(
        self,
        files: Sequence[UploadedFile],
        *,
        archive: UploadedFile | None = None,
        labels: str | None = None,
        boxes: str | None = None,
    ) -> tuple[str, BatchManifest]:
        """Store single files, then the entries of a zip archive, in that order.

        Args:
            files: Image files.
            archive: A zip of image files.
            labels: JSON for `annotations.read_labels`.
            boxes: JSON for `annotations.read_boxes`.

        Returns:
            The digest, which is the same for the same images, names, labels and boxes, and the manifest.

        Raises:
            InvalidUpload: There is no image, an archive is unsafe or damaged, or labels or boxes do not match.
            LimitExceeded: Too many images or bytes.
        """
        entries = []
        total = 0
        for number, image in enumerate(self._read(files, archive)):
            if number >= self._settings.batch_images:
                raise LimitExceeded(
                    what="the batch",
                    limit=self._settings.batch_images,
                    actual=number + 1,
                    unit="images",
                    field=image.field,
                )
            total += len(image.data)
            if total > self._settings.batch_bytes:
                raise LimitExceeded(
                    what="the batch", limit=self._settings.batch_bytes, actual=total, unit="bytes", field=image.field
                )
            if not image.data:
                msg = f"{image.name!r} is empty; send the file again or leave it out"
                raise InvalidUpload(msg, field=image.field)
            entries.append(BatchEntry(name=image.name, digest=self._blobs.put(image.data), size_bytes=len(image.data)))
        if not entries:
            msg = "the batch has no image; send at least one part `images`, or an `archive` that contains an image"
            raise InvalidUpload(msg, field="images")
        names = [entry.name for entry in entries]
        annotations = zip(read_labels(labels, names), read_boxes(boxes, names), strict=True)
        return self._remember(
            [
                entry.model_copy(update={"label": label, "boxes": objects})
                for entry, (label, objects) in zip(entries, annotations, strict=True)
            ]
        )

    def store_inline(self, images: Sequence[InlineImage]) -> tuple[str, BatchManifest]:
        """Store the images of a request itself.

        Raises:
            InvalidUpload: An image is empty.
            LimitExceeded: An image has too many bytes.
        """
        self.check_inline(images)
        for image in images:
            self._blobs.put(image.data)
        return self._remember(inline_manifest(images).entries)

    def check_inline(self, images: Sequence[InlineImage]) -> None:
        """Refuse images of a request that cannot be stored; stores nothing.

        Raises:
            InvalidUpload: An image is empty.
            LimitExceeded: An image has too many bytes.
        """
        for number, image in enumerate(images):
            field = f"images.images.{number}.data"
            self._check_image_bytes(len(image.data), f"image {number}", field)
            if not image.data:
                msg = f"image {number} is empty; send the base64 of a file"
                raise InvalidUpload(msg, field=field)

    def get(self, digest: str) -> BatchManifest:
        """Return the manifest of a stored batch.

        Raises:
            NotFound: There is no such batch.
        """
        manifest = None
        if _DIGEST.fullmatch(digest):  # a database refuses some characters with an error
            with self._database.reading() as connection:
                manifest = find_batch(connection, digest)
        if manifest is None:
            msg = f"no image batch {digest[:71]} is stored; upload it with POST /v1/image-batches"
            raise NotFound(msg)
        return manifest

    def _remember(self, entries: Sequence[BatchEntry]) -> tuple[str, BatchManifest]:
        manifest = BatchManifest(entries=tuple(entries))
        digest = digest_of(manifest)
        with self._database.writing() as connection:
            insert_batch(connection, digest=digest, manifest=manifest, now=self._clock())
        return digest, manifest

    def _read(self, files: Sequence[UploadedFile], archive: UploadedFile | None) -> Iterator[_Image]:
        for file in files:
            yield _Image(_file_name(file), self._capped(file.stream, file.name, file.field), file.field)
        if archive is not None:
            yield from self._entries(archive)

    def _entries(self, archive: UploadedFile) -> Iterator[_Image]:
        _check_directory(archive, entries=self._settings.batch_images)
        try:
            with zipfile.ZipFile(archive.stream) as opened:
                for info in opened.infolist():
                    # macOS adds metadata files under this folder, which are not images
                    if info.filename.endswith("/") or info.filename.startswith("__MACOSX/"):
                        continue
                    _check_entry(info, archive.field)
                    with opened.open(info) as stream:
                        data = self._capped(stream, info.filename, archive.field)
                    yield _Image(info.filename, data, archive.field)
        # ValueError: a damaged directory makes zipfile seek before the file or decode invalid names
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
            msg = f"the archive cannot be read ({error}); send an ordinary zip file"
            raise InvalidUpload(msg, field=archive.field) from error

    def _capped(self, stream: IO[bytes], name: str, field: str) -> bytes:
        """Read at most one byte more than allowed, because the sizes in an archive cannot be trusted."""
        data = stream.read(self._settings.image_bytes + 1)
        self._check_image_bytes(len(data), repr(name), field)
        return data

    def _check_image_bytes(self, size: int, name: str, field: str) -> None:
        if size > self._settings.image_bytes:
            raise LimitExceeded(what=name, limit=self._settings.image_bytes, actual=size, unit="bytes", field=field)


def _check_directory(archive: UploadedFile, *, entries: int) -> None:
    """Refuse a huge directory before `zipfile` turns it into objects."""
    stream = archive.stream
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - _END_RECORD_REACH))
    tail = stream.read()
    stream.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END_RECORD.size:
        msg = "the archive is not a zip file; send a zip, or single files as `images`"
        raise InvalidUpload(msg, field=archive.field)
    if tail[max(0, at - _ZIP64_LOCATOR_BYTES) :].startswith(b"PK\x06\x07"):
        msg = "the archive is a ZIP64 file, made for more than 4 GB; send an ordinary zip"
        raise InvalidUpload(msg, field=archive.field)
    directory_bytes = _END_RECORD.unpack_from(tail, at)[5]
    # twice the entries: folders and metadata files are listed too
    limit = (2 * entries + 64) * _DIRECTORY_BYTES_AN_ENTRY
    if directory_bytes > limit:
        raise LimitExceeded(
            what="the archive's directory", limit=limit, actual=directory_bytes, unit="bytes", field=archive.field
        )


def _check_entry(info: zipfile.ZipInfo, field: str) -> None:
    name = info.orig_filename
    parts = name.replace("\\", "/").split("/")
    problem = None
    if not name or name.startswith("/") or ".." in parts or "\\" in name or ":" in name or not name.isprintable():
        problem = "points outside the archive or is not a plain name"
    elif len(name) > NAME_LENGTH:
        problem = f"is longer than {NAME_LENGTH} characters"
    elif stat.S_ISLNK(info.external_attr >> 16):
        problem = "is a link"
    elif info.flag_bits & 0x1:
        problem = "is encrypted"
    elif info.compress_type not in _METHODS:
        problem = f"is compressed by a method other than {' and '.join(_METHODS.values())}"
    elif name.lower().endswith(_NESTED):
        problem = "is an archive in an archive"
    if problem:
        msg = f"entry {name[:NAME_LENGTH]!r} of the archive {problem}; pack the image files themselves, without it"
        raise InvalidUpload(msg, field=field)


def _file_name(file: UploadedFile) -> str:
    """Last component of the name, which some clients send as a path."""
    name = file_name(file.name)
    if not name or not name.isprintable():
        msg = f"the file name {file.name[:NAME_LENGTH]!r} is not printable; rename the file"
        raise InvalidUpload(msg, field=file.field)
    return name
