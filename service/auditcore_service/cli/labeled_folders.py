"""Labeled images in a folder, as trainings, studies and remedies take them.

Two layouts are read. Either the folder has a folder `images` and beside it `labels.csv`, or `annotations.json` of COCO,
or both, and optionally `classes.txt`: the layout that `auditcore synthetic` writes. Or its folders are the classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from auditcore.contracts.access import Limits
from auditcore.contracts.images import ImageBatchReference
from auditcore.images.encoded import EncodedImage
from auditcore.orchestration.reading_images import manifest_digest
from auditcore_service.cli.encoded_files import encode_files
from auditcore_service.cli.found_images import ImageFile, find_images, show_passed_over
from auditcore_service.cli.inputs import gather_annotations
from auditcore_service.cli.outcome import CommandError
from auditcore_service.use_cases.annotations import GivenAnnotations
from auditcore_service.use_cases.refusals import InvalidUpload

TABLE, OBJECTS, CLASSES = "labels.csv", "annotations.json", "classes.txt"


class LabeledFolder(NamedTuple):
    """Images of a folder.

    Attributes:
        images: With their labels, and with boxes and masks if the folder has them.
        reference: How a request names them: the batch that a service would store.
    """

    images: list[EncodedImage]
    reference: dict[str, str]


class DescribedFolder(NamedTuple):
    """Image files of a folder, not read yet, and what the folder says of them.

    Attributes:
        files: The files, in order.
        annotations: Their labels, and boxes and masks if the folder has them.
    """

    files: tuple[ImageFile, ...]
    annotations: GivenAnnotations


def find_labeled_folder(folder: Path, *, option: str) -> DescribedFolder:
    """The image files of a folder with what it says of them.

    Args:
        folder: The folder.
        option: The option that names the folder, for errors.

    Raises:
        CommandError: There is no such folder, it has neither layout, or what it says of its images cannot be read.
    """
    if not folder.is_dir():
        message = f"{option} {folder}: there is no such folder"
        raise CommandError(message)
    inside = folder / "images"
    table, objects, classes = (folder / name for name in (TABLE, OBJECTS, CLASSES))
    described = inside.is_dir() and (table.exists() or objects.exists())
    if not described and not any(path.is_dir() for path in folder.iterdir()):
        message = (
            f"{option} {folder}: this folder holds neither `images` beside {TABLE} or {OBJECTS}, nor a folder for each "
            "class; arrange the images in one of these ways"
        )
        raise CommandError(message)
    found = find_images([inside if described else folder], class_folders=not described)
    show_passed_over(found)
    given = gather_annotations(
        found.files,
        labels=str(table) if described and table.exists() else None,
        annotations=str(objects) if described and objects.exists() else None,
        classes=str(classes) if classes.exists() else None,
        labels_from_folders=not described,
    )
    return DescribedFolder(found.files, given)


def read_labeled_folder(folder: Path, limits: Limits, *, option: str) -> LabeledFolder:
    """The images of a folder with what it says of them.

    Args:
        folder: The folder.
        limits: Of a file with more bytes, only one more is read; it is then left out with its reason.
        option: The option that names the folder, for errors.

    Raises:
        CommandError: There is no such folder, it has neither layout, or what it says of its images cannot be used.
    """
    found = find_labeled_folder(folder, option=option)
    try:
        images = encode_files(found.files, limits, found.annotations)
    except InvalidUpload as error:
        message = f"{option} {folder}: what is known of the images cannot be used"
        raise CommandError(message, errors=[(error.field or "labels", error.message)], code=error.code) from error
    return LabeledFolder(images, ImageBatchReference(digest=manifest_digest(images)).model_dump())
