"""Annotation files of COCO: boxes, polygons and run lengths of the objects in many images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from auditcore.contracts.images import Box
from auditcore.contracts.masks import Mask
from auditcore_service.use_cases.class_names import AnnotationField, ClassNames, cut
from auditcore_service.use_cases.image_names import ImageNames
from auditcore_service.use_cases.refusals import InvalidUpload

_NAMED = 5
"""Categories that a message names."""


class CocoObjects(NamedTuple):
    """The objects of one image.

    Attributes:
        labels: Classes of the objects, ascending; empty if the classes of the model are not known.
        boxes: Boxes of objects, if no object has a mask.
        masks: Masks of objects; an object without a mask counts by its box.
    """

    labels: tuple[int, ...] = ()
    boxes: tuple[Box, ...] = ()
    masks: tuple[Mask, ...] = ()


def is_coco(document: object) -> bool:
    """Whether a JSON document is an annotation file of COCO."""
    return isinstance(document, dict) and all(isinstance(document.get(key), list) for key in ("images", "annotations"))


def read_coco(
    document: Mapping[str, Any],
    names: Sequence[str],
    classes: ClassNames,
    field: AnnotationField,
    *,
    masks: bool = True,
) -> list[CocoObjects]:
    """Read the objects of each image.

    Images of the file that are not in the batch are left out, because a file describes a whole dataset.

    Args:
        document: The file, with `images`, `annotations` and `categories`.
        names: File names of the images, in order.
        classes: Names of the model's classes, by which categories become classes. Without them, objects of the only
            category count for every target.
        field: Field of the upload that has it, for errors.
        masks: Whether objects count by their masks; if not, all of them count by their boxes.

    Raises:
        InvalidUpload: No image of the batch is in the file, an entry lacks what COCO requires, or there are several
            categories and the classes of the model are not known.
    """
    positions = _positions(document["images"], names, field)
    categories = {
        _get(one, "id", "categories", number, field): str(_get(one, "name", "categories", number, field))
        for number, one in enumerate(document.get("categories") or ())
    }
    objects: list[list[tuple[int | None, Mapping[str, Any], str]]] = [[] for _ in names]
    used: dict[object, None] = {}
    for number, entry in enumerate(document["annotations"]):
        position = positions.get(_get(entry, "image_id", "annotations", number, field))
        if position is None:
            continue
        category = entry.get("category_id")
        used[category] = None
        which = f"annotation {number} of image {position} ({names[position]!r})"
        label = None
        if classes.names:
            if category not in categories:
                msg = f"{which} has the category {cut(category)}, which `categories` does not list; add its name"
                raise InvalidUpload(msg, field=field)
            label = classes.index(categories[category], which, field)
        objects[position].append((label, entry, which))
    if not classes.names and len(used) > 1:
        found = ", ".join(cut(categories.get(category, category)) for category in list(used)[:_NAMED])
        msg = (
            f"the COCO file has objects of {len(used)} categories ({found}); send `classes`, the names of the model's "
            "classes in order, so that each object counts for its class"
        )
        raise InvalidUpload(msg, field="classes")
    return [_objects(of_image, field, masks=masks) for of_image in objects]


def _positions(images: Sequence[Any], names: Sequence[str], field: AnnotationField) -> dict[object, int]:
    """Position in the batch of each image of the file that is part of it, by its id."""
    known = ImageNames(names)
    found = {}
    for number, one in enumerate(images):
        name = str(_get(one, "file_name", "images", number, field))
        if known.positions(name):
            found[_get(one, "id", "images", number, field)] = known.position(name, field)
    if not found:
        example = f", such as {cut(images[0]['file_name'])}" if images else ""
        msg = f"no image of the COCO file is in the batch{example}; upload files by the names in `file_name`"
        raise InvalidUpload(msg, field=field)
    return found


def _objects(
    entries: Sequence[tuple[int | None, Mapping[str, Any], str]], field: AnnotationField, *, masks: bool
) -> CocoObjects:
    labels = tuple(sorted({label for label, _, _ in entries if label is not None}))
    masked = masks and any(entry.get("segmentation") for _, entry, _ in entries)
    boxes, found = [], []
    for label, entry, which in entries:
        try:
            if masked and entry.get("segmentation"):
                found.append(_mask(entry["segmentation"], label))
                continue
            corners = _corners(entry.get("bbox"), which, field)
            # strict, as in a request: a corner of "10" is a mistake
            box = Box.model_validate({**corners, "label": label}, strict=True)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            msg = f"{which} cannot be used: {reason}; correct it or leave it out"
            raise InvalidUpload(msg, field=field) from error
        if masked:
            around = (box.x0, box.y0, box.x1, box.y0, box.x1, box.y1, box.x0, box.y1)
            found.append(Mask(polygons=(around,), label=label))
        else:
            boxes.append(box)
    return CocoObjects(labels, tuple(boxes), tuple(found))


def _mask(segmentation: object, label: int | None) -> Mask:
    form = "rle" if isinstance(segmentation, dict) else "polygons"
    return Mask.model_validate({form: segmentation, "label": label})


def _corners(bbox: object, which: str, field: AnnotationField) -> dict[str, float]:
    """Corners of a box of x, y, width and height."""
    numbers = isinstance(bbox, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in bbox
    )
    if not isinstance(bbox, list) or not numbers or len(bbox) != 4:  # noqa: PLR2004 - x, y, width, height
        msg = f"{which} has the `bbox` {cut(bbox)}, which is not [x, y, width, height]"
        raise InvalidUpload(msg, field=field)
    x, y, width, height = bbox
    # tools round the left and upper edge a little below 0
    return {"x0": max(0, x), "y0": max(0, y), "x1": x + width, "y1": y + height}


def _get(entry: object, key: str, part: str, number: int, field: AnnotationField) -> Any:  # noqa: ANN401 - plain JSON
    value = entry.get(key) if isinstance(entry, dict) else None
    if value is None or isinstance(value, list | dict):
        msg = f"entry {number} of `{part}` in the COCO file has no `{key}`; add it"
        raise InvalidUpload(msg, field=field)
    return value
