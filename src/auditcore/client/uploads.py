"""Images, and what is known of them, as the parts of a form."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from auditcore.client.errors import InvalidArgument

IMAGE_ENDINGS: Final = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".dcm", ".dicom", ".npy", ".safetensors")
)
"""Endings of the files that a folder stands for; a file that is named itself may have any."""

Annotation = str | Sequence[object] | Mapping[str, object]
"""What is known of images: a list with one entry per image, a mapping from file name to entry, or a text as the service
takes it, which is JSON, CSV, or an annotation file of COCO."""


@final
@dataclass(frozen=True)
class NamedImage:
    """One image to upload.

    Attributes:
        name: How labels, boxes and the report call it.
        content: Its file, or the bytes of its file.
    """

    name: str
    content: Path | bytes = field(repr=False)


Images = str | Path | bytes | NamedImage | Sequence[str | Path | bytes | NamedImage]
"""Files, folders, and bytes of files. A folder stands for the image files in it, by name."""


@final
@dataclass(frozen=True)
class Form:
    """A form of files and texts.

    Attributes:
        files: Field -> a file; a field may occur several times.
        texts: Field -> its text.
    """

    files: tuple[tuple[str, NamedImage], ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)


def images_of(given: Images) -> tuple[NamedImage, ...]:
    """The images that files, folders and bytes stand for, in order.

    Args:
        given: As for `Client.upload`. Bytes are named `image-0`, `image-1` and so on, by their position.

    Raises:
        InvalidArgument: A path does not exist, or a folder holds no image.
    """
    several = [given] if isinstance(given, str | Path | bytes | NamedImage) else given
    found: list[NamedImage] = []
    for one in several:
        if isinstance(one, NamedImage):
            found.append(one)
        elif isinstance(one, bytes):
            found.append(NamedImage(f"image-{len(found)}", one))
        else:
            found += _of_path(Path(one))
    return tuple(found)


def annotation_text(given: Annotation | None) -> str | None:
    """What is known of images as a form holds it; None if nothing is."""
    return given if given is None or isinstance(given, str) else json.dumps(given)


def image_form(
    images: Iterable[NamedImage], masks: Iterable[NamedImage] = (), *, texts: Mapping[str, str | None] | None = None
) -> Form:
    """The form that uploads images.

    Args:
        images: The images, in order.
        masks: Masks as PNG files, named after their images.
        texts: Field -> text; fields without one are left out.
    """
    return Form(
        files=(*(("images", one) for one in images), *(("masks", one) for one in masks)),
        texts={name: text for name, text in (texts or {}).items() if text is not None},
    )


def _of_path(path: Path) -> list[NamedImage]:
    if path.is_file():
        return [NamedImage(path.name, path)]
    if not path.is_dir():
        message = f"no image file or folder {path}; check the path"
        raise InvalidArgument(message)
    try:
        inside = sorted(path.iterdir())
    except OSError as error:
        message = f"the folder {path} cannot be read ({error.strerror}); check its permissions"
        raise InvalidArgument(message) from error
    found = [
        NamedImage(one.name, one)
        for one in inside
        if one.suffix.lower() in IMAGE_ENDINGS and one.is_file() and not one.name.startswith(".")
    ]
    if not found:
        endings = ", ".join(sorted(IMAGE_ENDINGS))
        message = f"folder {path} holds no image file ({endings}); name a folder of images, or the files themselves"
        raise InvalidArgument(message)
    return found
