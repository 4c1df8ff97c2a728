"""What the commands read: request files, and what is known of images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from auditcore_service.cli.found_images import ImageFile, listed
from auditcore_service.cli.given_files import read_file
from auditcore_service.cli.outcome import CommandError
from auditcore_service.use_cases.annotations import GivenAnnotations, MaskFile
from auditcore_service.use_cases.class_folders import labels_from_folders as classes_of_folders
from auditcore_service.use_cases.class_names import read_classes
from auditcore_service.use_cases.refusals import InvalidUpload
from auditcore_service.use_cases.text_encoding import composed, decode_text


def read_json(path: Path) -> object:
    """What a JSON file holds.

    Raises:
        CommandError: There is no such file, or it is not JSON.
    """
    try:
        return json.loads(decode_text(read_file(path)))
    except ValueError as error:
        message = f"{path} is not JSON ({error})"
        raise CommandError(message) from error


def read_request(path: Path) -> dict[str, Any]:
    """The JSON object in a request file.

    Raises:
        CommandError: There is no such file, or it holds no JSON object.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        message = f"{path} must hold a JSON object with model, images and plan"
        raise CommandError(message)
    return document


def resolve_paths(document: dict[str, Any], folder: Path) -> None:
    """Turn paths in the places of URIs into `file:` URIs. What has another shape is left to validation."""
    sets = [document.get(name) for name in ("images", "validation")]
    named = document.get("models")
    entries = named if isinstance(named, list) else []
    owners = [document, document.get("baseline"), *entries]
    models = [owner.get("model") for owner in owners if isinstance(owner, dict)]
    given = [model for model in models if isinstance(model, dict)]
    # a registry's `models:/name` has a scheme, so that only files are meant
    holders: list[object] = [*given, *(model.get("weights") for model in given)]
    for images in sets:
        if isinstance(images, dict):
            holders.append(images)
            holders += images["uris"] if isinstance(images.get("uris"), list) else []
    for holder in holders:
        if not isinstance(holder, dict) or not isinstance(holder.get("uri"), str):
            continue
        uri = holder["uri"]
        if uri and not urlsplit(uri).scheme:
            holder["uri"] = (folder / uri).as_uri()


def read_annotations(given: str | None) -> str | None:
    """What is known of images as the service takes it: JSON as it stands on the command line, or the text of a file.

    Raises:
        CommandError: There is no such file, or it holds no text.
    """
    if given is None or given.lstrip()[:1] in {"[", "{"}:
        return given
    path = Path(given)
    try:
        return decode_text(read_file(path, remedy="give a JSON file, or JSON that begins with [ or {"))
    except ValueError as error:
        message = f"{path} is not a text file in UTF-8 or UTF-16 ({error}); save it as UTF-8, in Excel as `CSV UTF-8`"
        raise CommandError(message) from error


def gather_annotations(
    files: Sequence[ImageFile],
    *,
    labels: str | None = None,
    boxes: str | None = None,
    masks: str | None = None,
    annotations: str | None = None,
    classes: str | None = None,
    box_format: str | None = None,
    labels_from_folders: bool = False,
) -> GivenAnnotations:
    """What the options of a command say of its images.

    Args:
        files: The images, in order.
        labels: JSON, or a file of JSON or CSV.
        boxes: JSON, a file of JSON, or a folder of YOLO's text files.
        masks: JSON, a file of JSON, or a folder of PNG files.
        annotations: A file of COCO or CSV.
        classes: JSON, or a file of JSON or of one name per line.
        box_format: What the four numbers of a box are.
        labels_from_folders: Whether the folder of an image is its label.

    Raises:
        CommandError: A file cannot be read, or two options say the same.
    """
    mask_files: tuple[MaskFile, ...] = ()
    if masks is not None and Path(masks).is_dir():
        mask_files = tuple(
            MaskFile(path.name, read_file(path)) for path in listed(Path(masks)) if path.suffix.lower() == ".png"
        )
        if not mask_files:
            message = f"folder {masks} holds no PNG; save masks as PNG files named after their images"
            raise CommandError(message)
        masks = None
    if boxes is not None and Path(boxes).is_dir():
        boxes, box_format = _yolo_folder(Path(boxes), files), box_format or "yolo"
    class_names = read_annotations(classes)
    if labels_from_folders:
        if labels is not None:
            message = "--labels and --labels-from-folders both say the classes of the images; give one of them"
            raise CommandError(message)
        try:
            found = classes_of_folders([file.folder for file in files], read_classes(class_names))
        except InvalidUpload as error:
            raise CommandError(error.message, code=error.code) from error
        labels = json.dumps(found)
        # the folders are the classes then
        class_names = class_names or json.dumps(sorted({file.folder for file in files}))
    return GivenAnnotations(
        labels=read_annotations(labels),
        boxes=read_annotations(boxes),
        masks=read_annotations(masks),
        annotations=read_annotations(annotations),
        classes=class_names,
        box_format=box_format,
        mask_files=mask_files,
    )


def _yolo_folder(folder: Path, files: Sequence[ImageFile]) -> str:
    """Boxes of all images from a folder with one text file per image: class, center x, center y, width, height."""
    entries: list[list[list[float]] | None] = []
    # accents in one form, since the two files may come from different systems
    texts = {composed(path.stem): path for path in listed(folder) if path.suffix.lower() == ".txt"}
    for file in files:
        path = texts.get(composed(file.path.stem))
        if path is None:
            entries.append(None)
            continue
        boxes = []
        for number, line in enumerate((read_annotations(str(path)) or "").splitlines(), start=1):
            if not line.strip():
                continue
            try:
                label, *box = line.split()
                boxes.append([int(label), *(float(value) for value in box[:4])])
            except ValueError as error:
                message = (
                    f"line {number} of {path} is not a box of YOLO; write: class, center x, center y, width, height"
                )
                raise CommandError(message) from error
            if len(box) != 4:  # noqa: PLR2004 - center x, center y, width, height
                message = (
                    f"line {number} of {path} has {len(box)} numbers after the class; a box has 4: center x, center y, "
                    "width, height"
                )
                raise CommandError(message)
        entries.append(boxes)
    if not any(entry is not None for entry in entries):
        message = f"folder {folder} holds no text file named after an image, such as {files[0].path.stem}.txt"
        raise CommandError(message)
    return json.dumps(entries)
