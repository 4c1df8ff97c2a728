"""Image files that a command finds in files and folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from auditcore.contracts.access import Limits
from auditcore.contracts.image_names import fault_of_name
from auditcore.errors import InputError
from auditcore.images.tensor_batches import TensorBatch, cut, is_tensor_file, open_batch
from auditcore_service.cli.outcome import CommandError, err
from auditcore_service.use_cases.image_files import (
    HEADER_BYTES,
    IMAGE_SUFFIXES,
    has_image_header,
    has_image_suffix,
    is_hidden,
    is_system_file,
)

_LISTED = 10
"""Files that a line on the terminal names before it only counts."""


class ImageFile(NamedTuple):
    """One image file.

    Attributes:
        path: Where it is.
        name: How labels, boxes and the report call it.
        folder: Name of the folder it is in.
    """

    path: Path
    name: str
    folder: str = ""


class FoundImages(NamedTuple):
    """What a scan found.

    Attributes:
        files: Image files in order.
        passed_over: Names of what is no image, or a folder in a folder. Hidden files and files of operating systems are
            not listed.
    """

    files: tuple[ImageFile, ...]
    passed_over: tuple[str, ...]


def find_images(paths: Sequence[Path], *, class_folders: bool = False) -> FoundImages:
    """Image files in the order given; a folder stands for the image files in it, by name.

    In a folder, a file with another ending than that of an image counts if it begins like one.

    Args:
        paths: Files and folders.
        class_folders: Whether a folder stands for the image files in its folders, which are classes.

    Raises:
        CommandError: A path does not exist, a folder holds no image, or a file has a name that a report cannot hold.
    """
    files: list[ImageFile] = []
    passed_over: list[str] = []
    for path in paths:
        if path.is_file():
            # `photos/*` of a shell names the files that an operating system added as well
            if not is_system_file(path.name):
                files.append(_named(path))
        elif path.is_dir():
            files += _in_classes(path, passed_over) if class_folders else _inside(path, passed_over)
        else:
            message = f"no image file or folder {path}; check the path"
            raise CommandError(message)
    if not files:
        message = f"no image file among {', '.join(map(str, paths))}; give files ({_endings()}) or folders of them"
        raise CommandError(message)
    return FoundImages(tuple(files), tuple(passed_over))


def images_in(file: ImageFile, limits: Limits) -> list[tuple[str, bytes]]:
    """Name and bytes of the image in a file, or of each image in a file of tensors.

    Args:
        file: The file.
        limits: Of a file with more bytes, only one more is read; the audit then leaves it out with its reason.

    Raises:
        CommandError: A file of tensors cannot be used.
    """
    with _opened(file, limits) as (stream, batch):
        if batch is None:
            return [(file.name, stream.read(limits.image_bytes + 1))]
        images = cut(stream, batch, field="images")
        return list(zip(batch.names(file.name), images, strict=True))


def count_images(files: Sequence[ImageFile], limits: Limits) -> int:
    """Number of images in files; a file of tensors may hold several.

    Raises:
        CommandError: A file of tensors cannot be used.
    """
    count = 0
    for file in files:
        with _opened(file, limits) as (_, batch):
            count += 1 if batch is None else batch.images
    return count


@contextmanager
def _opened(file: ImageFile, limits: Limits) -> Iterator[tuple[BinaryIO, TensorBatch | None]]:
    """Open a file and read its header if it is one of tensors."""
    try:
        with file.path.open("rb") as stream:
            start = stream.read(HEADER_BYTES)
            stream.seek(0)
            size = file.path.stat().st_size
            ready = is_tensor_file(start, file.name)
            yield stream, open_batch(stream, size=size, limits=limits, field="images") if ready else None
    except InputError as error:
        message = f"the file {file.path} cannot be used"
        raise CommandError(message, errors=[("--images", error.message)], code=error.code) from error
    except OSError as error:
        message = f"{file.path} cannot be read ({error.strerror}); check its permissions"
        raise CommandError(message) from error


def show_passed_over(found: FoundImages) -> None:
    """Say on standard error which files of folders are not part of the audit."""
    names = found.passed_over
    if names:
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        err.print(f"passed over, not an image: {', '.join(names[:_LISTED])}{more}", highlight=False, markup=False)


def listed(folder: Path) -> list[Path]:
    """What is in a folder, by name.

    Raises:
        CommandError: It cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        message = f"the folder {folder} cannot be read ({error.strerror}); check its permissions"
        raise CommandError(message) from error


def _inside(folder: Path, passed_over: list[str]) -> list[ImageFile]:
    found = []
    skipped = []
    for path in listed(folder):
        if is_system_file(path.name) or is_hidden(path.name):
            continue
        if path.is_file() and (has_image_suffix(path.name) or has_image_header(_header(path))):
            found.append(_named(path))
        else:
            skipped.append(_text(path.name) + ("/" if path.is_dir() else ""))
    if not found:
        seen = f"; it holds {', '.join(skipped[:_LISTED])}" if skipped else ""
        if any(name.endswith("/") for name in skipped):
            seen += "; with --labels-from-folders, its folders are classes"
        message = f"folder {folder} holds no image file ({_endings()}){seen}"
        raise CommandError(message)
    passed_over += skipped
    return found


def _in_classes(folder: Path, passed_over: list[str]) -> list[ImageFile]:
    """The image files in the folders of a folder, at any depth below them."""
    found: list[ImageFile] = []
    for path in listed(folder):
        if is_system_file(f"{path.name}/") or is_hidden(path.name):
            continue
        if not path.is_dir():
            passed_over.append(_text(path.name))
            continue
        for file in sorted(path.rglob("*")):
            inside = file.relative_to(folder).as_posix()
            if is_system_file(inside) or is_hidden(inside) or not file.is_file():
                continue
            if has_image_suffix(file.name) or has_image_header(_header(file)):
                found.append(_named(file)._replace(folder=_text(path.name)))
            else:
                passed_over.append(_text(inside))
    if not found:
        message = f"folder {folder} holds no folder with image files; --labels-from-folders needs one folder per class"
        raise CommandError(message)
    return found


def _named(path: Path) -> ImageFile:
    name = _text(path.name)
    fault = fault_of_name(name)
    if fault:
        message = f"the name of the image file {path} {fault}; rename the file"
        raise CommandError(message)
    return ImageFile(path, name, _text(path.absolute().parent.name))


def _header(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEADER_BYTES)
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}); check its permissions"
        raise CommandError(message) from error


def _text(name: str) -> str:
    """The name of a file as text; bytes that are not UTF-8 become replacement characters."""
    return os.fsencode(name).decode(errors="replace")


def _endings() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))
