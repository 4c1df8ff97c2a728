"""Image batches: bytes in, content addresses out. Images are not decoded here; limits are checked before reading."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, BinaryIO, NamedTuple, final

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.image_names import NAME_LENGTH, fault_of_name, file_name
from auditcore.contracts.images import (
    BatchEntry,
    BatchManifest,
    ImageBatchReference,
    ImagesReference,
    InlineImage,
    InlineImages,
    TensorImages,
    inline_manifest,
    stored_masks,
)
from auditcore.contracts.masks import Mask
from auditcore.errors import LimitExceeded
from auditcore.images.patient_data import is_dicom, pixels_only
from auditcore.images.tensor_batches import cut, is_tensor_file, open_batch
from auditcore.orchestration.reading_images import AsksForImages, cut_tensors, entry_of, open_tensors, require_models
from auditcore_service.principals import Principal
from auditcore_service.settings import Settings
from auditcore_service.store.batches import find_batch, insert_batch, use_batch
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.store.usage import lock_usage
from auditcore_service.use_cases.annotations import GivenAnnotations, read_annotations, read_class_names
from auditcore_service.use_cases.deleted_objects import missing_batch
from auditcore_service.use_cases.digests import is_digest
from auditcore_service.use_cases.image_files import (
    HEADER_BYTES,
    has_image_header,
    has_image_suffix,
    is_hidden,
    is_system_file,
)
from auditcore_service.use_cases.metered_blobs import MeteredBlobs
from auditcore_service.use_cases.quotas import Quotas
from auditcore_service.use_cases.refusals import InvalidUpload

_DRIVE = re.compile(r"[A-Za-z]:")
_NAME_IS_UTF8 = 0x800
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


class StoredBatch(NamedTuple):
    """A batch that was stored.

    Attributes:
        digest: The same for the same images, names and annotations.
        manifest: Its images.
        passed_over: Names of files that are no images and are not part of the batch; system files are not listed.
    """

    digest: str
    manifest: BatchManifest
    passed_over: tuple[str, ...] = ()


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
        self,
        settings: Settings,
        *,
        database: Database,
        blobs: BlobStore,
        quotas: Quotas,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._quotas = quotas
        self._clock = clock

    def store(
        self,
        principal: Principal,
        files: Sequence[UploadedFile],
        *,
        archive: UploadedFile | None = None,
        annotations: GivenAnnotations | None = None,
    ) -> StoredBatch:
        """Store single files, then the images of a zip archive, in that order.

        Args:
            principal: Whose batch it will be.
            files: Image files.
            archive: A zip of image files. Files that operating systems add are skipped; other files that are no images
                are passed over.
            annotations: What is known of the images.

        Raises:
            InvalidUpload: There is no image, an archive is unsafe or damaged, or annotations do not match.
            UndecodableImage: A DICOM file is damaged, so that what it says about the patient cannot be removed.
            LimitExceeded: Too many images or bytes.
            QuotaExceeded: The tenant would store too many bytes.
        """
        blobs = self._metered(principal)
        entries = []
        total = 0
        passed_over: list[str] = []
        for number, image in enumerate(self._read(files, archive, passed_over)):
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
            data = _without_patient(image.data, image.field)
            entries.append(BatchEntry(name=image.name, digest=blobs.put(data), size_bytes=len(data)))
        if not entries:
            others = f" among {len(passed_over)} files, such as {passed_over[0]!r}" if passed_over else ""
            msg = f"the batch has no image{others}; send at least one part `images`, or an `archive` with an image"
            raise InvalidUpload(msg, field="images")
        names = [entry.name for entry in entries]
        given = annotations or GivenAnnotations()
        known = read_annotations(given, names)
        total += sum(self._put_masks(blobs, one.masks) for one in known)
        if total > self._settings.batch_bytes:
            raise LimitExceeded(
                what="the batch", limit=self._settings.batch_bytes, actual=total, unit="bytes", field="masks"
            )
        digest, manifest = self._remember(
            principal,
            blobs,
            [
                entry.model_copy(update={"label": one.label, "boxes": one.boxes, "masks": stored_masks(one.masks)})
                for entry, one in zip(entries, known, strict=True)
            ],
            read_class_names(given, names),
        )
        return StoredBatch(digest, manifest, tuple(passed_over))

    def pin_tensors(
        self, principal: Principal, images: TensorImages, request: AsksForImages
    ) -> tuple[int, TensorImages]:
        """Number of images in a file of tensors, and the reference with the digest that the file has now.

        Raises:
            InputError: The file cannot be fetched, is not one of images, or does not fit a model of the request.
        """
        with open_tensors(images, self._settings.access, blobs=self._blobs.of(principal.tenant).get) as (stream, batch):
            require_models(batch, request)
            stream.seek(0)
            digest = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
            return batch.images, images.model_copy(update={"sha256": digest})

    def store_tensors(self, principal: Principal, images: TensorImages) -> tuple[str, BatchManifest]:
        """Store each image of a file of tensors; only one is in memory at a time.

        Raises:
            InputError: The file cannot be fetched, is not one of images, or has another digest.
            QuotaExceeded: The tenant would store too many bytes.
        """
        blobs = self._metered(principal)
        with open_tensors(images, self._settings.access, blobs=self._blobs.of(principal.tenant).get) as (stream, batch):
            entries = []
            for image in cut_tensors(images, stream, batch):
                blobs.put(image.data)
                self._put_masks(blobs, image.masks)
                entries.append(entry_of(image))
        return self._remember(principal, blobs, entries)

    def without_pixels(self, principal: Principal, images: ImagesReference) -> ImagesReference:
        """The same images as a stored batch or as URIs; no row of the database holds pixels.

        Raises:
            InputError: A file of tensors cannot be read.
            QuotaExceeded: The tenant would store too many bytes.
        """
        match images:
            case InlineImages(images=inline):
                return ImageBatchReference(digest=self.store_inline(principal, inline)[0])
            case TensorImages() as tensors:
                return ImageBatchReference(digest=self.store_tensors(principal, tensors)[0])
            case _:
                return images

    def store_inline(self, principal: Principal, images: Sequence[InlineImage]) -> tuple[str, BatchManifest]:
        """Store the images of a request itself.

        Raises:
            InvalidUpload: An image is empty.
            LimitExceeded: An image has too many bytes.
            QuotaExceeded: The tenant would store too many bytes.
        """
        self.check_inline(images)
        blobs = self._metered(principal)
        kept = [
            image.model_copy(update={"data": _without_patient(image.data, f"images.images.{number}.data")})
            for number, image in enumerate(images)
        ]
        for image in kept:
            blobs.put(image.data)
            self._put_masks(blobs, image.masks)
        return self._remember(principal, blobs, inline_manifest(kept).entries)

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

    def get(self, principal: Principal, digest: str) -> BatchManifest:
        """Return the manifest of a stored batch.

        Raises:
            NotFound: There is no such batch.
            Deleted: It was deleted.
        """
        with self._database.reading(principal.tenant) as connection:
            manifest = find_batch(connection, digest) if is_digest(digest) else None
            if manifest is None:
                raise missing_batch(connection, digest)
        return manifest

    def _metered(self, principal: Principal) -> MeteredBlobs:
        return MeteredBlobs(self._blobs.of(principal.tenant), self._quotas.room(principal.tenant))

    def _remember(
        self,
        principal: Principal,
        blobs: MeteredBlobs,
        entries: Sequence[BatchEntry],
        class_names: tuple[str, ...] = (),
    ) -> tuple[str, BatchManifest]:
        manifest = BatchManifest(entries=tuple(entries), class_names=class_names)
        digest = digest_of(manifest)
        # what the transaction refers to has to survive a power failure too
        blobs.sync()
        with self._database.writing(principal.tenant) as connection:
            # before the batch is looked up: of two uploads of it at once, the second needs no room
            lock_usage(connection, principal.tenant)
            if not use_batch(connection, digest, now=self._clock()):
                if blobs.room is not None and blobs.overflowed:
                    # even if something was deleted in the meantime: not all of it is stored
                    blobs.room.check(blobs.size_bytes, field="images")
                self._quotas.admit_bytes(connection, principal.tenant, blobs.size_bytes, field="images")
                insert_batch(
                    connection, digest=digest, manifest=manifest, size_bytes=blobs.size_bytes, now=self._clock()
                )
        return digest, manifest

    @staticmethod
    def _put_masks(blobs: MeteredBlobs, masks: Sequence[Mask]) -> int:
        """Store masks that are files, and return their size in bytes."""
        files = [mask.png for mask in masks if mask.png is not None]
        for file in files:
            blobs.put(file)
        return sum(map(len, files))

    def _read(
        self, files: Sequence[UploadedFile], archive: UploadedFile | None, passed_over: list[str]
    ) -> Iterator[_Image]:
        for file in files:
            name = _file_name(file)
            # a part is an image whatever its name, except for what a browser sends along with a folder
            if is_system_file(name):
                continue
            if is_tensor_file(file.stream.read(HEADER_BYTES), name):
                yield from self._tensors(file.stream, name, size=file.stream.seek(0, io.SEEK_END), field=file.field)
                continue
            file.stream.seek(0)
            yield _Image(name, self._capped(file.stream, file.name, file.field), file.field)
        if archive is not None:
            yield from self._entries(archive, passed_over)

    def _entries(self, archive: UploadedFile, passed_over: list[str]) -> Iterator[_Image]:
        _check_directory(archive, entries=self._settings.batch_images)
        try:
            with zipfile.ZipFile(archive.stream) as opened:
                for info in opened.infolist():
                    name = entry_name(info)
                    if name.endswith("/") or is_system_file(name) or is_hidden(name):
                        continue
                    _check_entry(info, name, archive.field)
                    with opened.open(info) as stream:
                        header = stream.read(HEADER_BYTES)
                        if not has_image_suffix(name) and not has_image_header(header):
                            passed_over.append(name)
                            continue
                        if is_tensor_file(header, name):
                            yield from self._tensors(stream, name, size=info.file_size, field=archive.field)
                            continue
                        data = self._capped(stream, name, archive.field, header=header)
                    yield _Image(name, data, archive.field)
        # ValueError: a damaged directory makes zipfile seek before the file or decode invalid names
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
            msg = f"the archive cannot be read ({error}); send an ordinary zip file"
            raise InvalidUpload(msg, field=archive.field) from error

    def _tensors(self, stream: IO[bytes], name: str, *, size: int, field: str) -> Iterator[_Image]:
        """The images in a file of tensors, each as a file of its own."""
        stream.seek(0)
        batch = open_batch(stream, size=size, limits=self._settings.limits, field=field)
        files = cut(stream, batch, field=field)
        for one, data in zip(batch.names(name), files, strict=True):
            yield _Image(one, data, field)

    def _capped(self, stream: IO[bytes], name: str, field: str, *, header: bytes = b"") -> bytes:
        """Read at most one byte more than allowed, because the sizes in an archive cannot be trusted."""
        data = header + stream.read(max(0, self._settings.image_bytes + 1 - len(header)))
        self._check_image_bytes(len(data), repr(name), field)
        return data

    def _check_image_bytes(self, size: int, name: str, field: str) -> None:
        if size > self._settings.image_bytes:
            raise LimitExceeded(what=name, limit=self._settings.image_bytes, actual=size, unit="bytes", field=field)


def _without_patient(data: bytes, field: str) -> bytes:
    """The bytes to store: of a DICOM file only the pixels, since what is stored stays for as long as the audit."""
    return pixels_only(data, field=field) if is_dicom(data) else data


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


def entry_name(info: zipfile.ZipInfo) -> str:
    """Name of an entry of a zip as its maker meant it, with slashes between folders.

    Windows separates folders by backslashes. Archives of the macOS Finder have names in UTF-8 without saying so, which
    `zipfile` then reads as code page 437.
    """
    name = info.orig_filename
    if not info.flag_bits & _NAME_IS_UTF8:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _check_entry(info: zipfile.ZipInfo, name: str, field: str) -> None:
    problem = fault_of_name(name)
    if name.startswith("/") or ".." in name.split("/") or _DRIVE.match(name):
        problem = "points outside the archive"
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
    fault = fault_of_name(name)
    if fault:
        msg = f"the file name {file.name[:NAME_LENGTH]!r} {fault}; rename the file"
        raise InvalidUpload(msg, field=file.field)
    return name
