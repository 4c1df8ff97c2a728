"""Classes of images by the folders that they are in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from auditcore_service.use_cases.class_names import ClassNames, cut
from auditcore_service.use_cases.refusals import InvalidUpload
from auditcore_service.use_cases.text_encoding import composed

_FIELD = "labels_from_folders"


def class_folders(names: Sequence[str], classes: ClassNames) -> list[str]:
    """Folder of each image that is its class.

    That is the folder of the image, or the outermost one of those in which images differ. Where these are not the same,
    as in `cat/outdoors/1.png` and `dog/indoors/2.png`, the names of the classes decide.

    Args:
        names: Paths of the images with slashes, such as those in an archive.
        classes: Names of the model's classes, if they are known.

    Returns:
        One name per image; empty for an image without a folder.

    Raises:
        InvalidUpload: Either folder could be the class.
    """
    paths = [name.split("/")[:-1] for name in names]
    # folders that all images are in, but for the last one of an image
    shared = len(list(takewhile(lambda level: len(set(level)) == 1, zip(*paths, strict=False))))
    depth = max(0, min(shared, *(len(path) - 1 for path in paths)))
    inner = [path[-1] if path else "" for path in paths]
    outer = [path[depth] if path else "" for path in paths]
    if inner == outer or not all(inner) or all(folder in classes for folder in inner):
        return inner
    if all(folder in classes for folder in outer):
        return outer
    position = next(position for position, folder in enumerate(inner) if folder != outer[position])
    msg = (
        f"{cut(outer[position])} or {cut(inner[position])} could be the class of the image {cut(names[position])}; "
        "pack one folder per class, without folders inside, or send `classes`, the names of the model's classes"
    )
    raise InvalidUpload(msg, field=_FIELD)


def labels_from_folders(folders: Sequence[str], classes: ClassNames) -> list[int]:
    """Class of each image by the name of its folder.

    Args:
        folders: Name of the folder of each image; empty for an image without one.
        classes: Names of the model's classes. If they are not known, the folders are the classes in alphabetical order,
            as torchvision's ImageFolder has them.

    Raises:
        InvalidUpload: An image has no folder, or its folder is not a class.
    """
    for position, folder in enumerate(folders):
        if not folder:
            msg = f"image {position} is in no folder of a class; put every image into the folder of its class"
            raise InvalidUpload(msg, field=_FIELD)
    different = sorted(set(folders))
    if not classes.names:
        _refuse_same_to_the_eye(different)
    known = classes if classes.names else ClassNames(different)
    for folder in different:
        if folder not in known:
            msg = f"the folder {cut(folder)} is not one of the {len(known.names)} names in `classes`; rename it"
            raise InvalidUpload(msg, field=_FIELD)
    return [known.index(folder, "a folder", "labels") for folder in folders]


def _refuse_same_to_the_eye(folders: Sequence[str]) -> None:
    """Refuse folders whose names differ only in how letters with accents are written."""
    seen: dict[str, str] = {}
    for folder in folders:
        if seen.setdefault(composed(folder), folder) != folder:
            msg = (
                f"two folders are called {cut(folder)}, with accents written in two ways (Unicode NFC and NFD), so "
                "they would be two classes; give both the same name"
            )
            raise InvalidUpload(msg, field=_FIELD)
