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

_FARTHEST = 1e9
"""No image has positions beyond. Larger ones may be too large for floating point."""

_DIGITS = 19
"""Longer texts are not numbers of images."""


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


def is_position(value: object) -> bool:
    """Whether a JSON value is a number that corners of boxes are computed from; integers of JSON have no bound."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _FARTHEST


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
    ids, positions = _positions(document["images"], names, field)
    listed = document.get("categories") or []
    if not isinstance(listed, list):
        msg = '`categories` of the COCO file is no list; write entries such as {"id": 1, "name": "cat"}'
        raise InvalidUpload(msg, field=field)
    categories = {
        _id(one, "id", "categories", number, field): str(_get(one, "name", "categories", number, field))
        for number, one in enumerate(listed)
    }
    objects: list[list[tuple[int | None, Mapping[str, Any], str]]] = [[] for _ in names]
    used: dict[object, None] = {}
    found_ids = 0
    for number, entry in enumerate(document["annotations"]):
        image = _id(entry, "image_id", "annotations", number, field)
        found_ids += image in ids
        position = positions.get(image)
        if position is None:
            continue
        category = None
        if entry.get("category_id") is not None:
            category = _id(entry, "category_id", "annotations", number, field)
        used[category] = None
        which = f"annotation {number} of image {position} ({names[position]!r})"
        label = None
        if classes.names:
            if category not in categories:
                msg = f"{which} has the category {cut(category)}, which `categories` does not list; add its name"
                raise InvalidUpload(msg, field=field)
            label = classes.index(categories[category], which, field)
        objects[position].append((label, entry, which))
    if document["annotations"] and not found_ids:
        msg = "no `image_id` of the annotations is the `id` of an entry of `images` in the COCO file; correct the ids"
        raise InvalidUpload(msg, field=field)
    if not classes.names and len(used) > 1:
        found = ", ".join(cut(categories.get(category, category)) for category in list(used)[:_NAMED])
        msg = (
            f"the COCO file has objects of {len(used)} categories ({found}); send `classes`, the names of the model's "
            "classes in order, so that each object counts for its class"
        )
        raise InvalidUpload(msg, field="classes")
    return [_objects(of_image, field, masks=masks) for of_image in objects]


def _positions(
    images: Sequence[Any], names: Sequence[str], field: AnnotationField
) -> tuple[set[object], dict[object, int]]:
    """All ids of images of the file, and the position in the batch of each image that is part of it, by its id."""
    files: dict[object, str] = {}
    for number, one in enumerate(images):
        name, given = str(_get(one, "file_name", "images", number, field)), _id(one, "id", "images", number, field)
        if files.setdefault(given, name) != name:
            msg = (
                f"the images {cut(files[given])} and {cut(name)} of the COCO file both have the `id` {cut(given)}; "
                "give each its own"
            )
            raise InvalidUpload(msg, field=field)
    known = ImageNames(names).known_positions(files.values(), field)
    found = {given: known[name] for given, name in files.items() if name in known}
    if not found:
        example = f", such as {cut(images[0]['file_name'])}" if images else ""
        msg = f"no image of the COCO file is in the batch{example}; upload files by the names in `file_name`"
        raise InvalidUpload(msg, field=field)
    return set(files), found


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
            form = "a `segmentation` is a list of polygons [x0, y0, x1, y1, ...], or an object with `size` and `counts`"
            msg = f"{which} cannot be used: {reason}; correct it or leave it out ({form})"
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
    if not isinstance(bbox, list) or not all(map(is_position, bbox)) or len(bbox) != 4:  # noqa: PLR2004 - x, y, width, height
        msg = f"{which} has the `bbox` {cut(bbox)}, which is not [x, y, width, height]"
        raise InvalidUpload(msg, field=field)
    x, y, width, height = bbox
    # tools round the left and upper edge a little below 0
    return {"x0": max(0, x), "y0": max(0, y), "x1": x + width, "y1": y + height}


def _id(entry: object, key: str, part: str, number: int, field: AnnotationField) -> object:
    """An id of an entry. Some programs write the same number as text in one place and as a number in another."""
    value = _get(entry, key, part, number, field)
    # not 007, which may be another one than 7
    plain = isinstance(value, str) and value.isascii() and value.isdigit() and (value[0] != "0" or value == "0")
    return int(value) if plain and len(value) < _DIGITS else value


def _get(entry: object, key: str, part: str, number: int, field: AnnotationField) -> Any:  # noqa: ANN401 - plain JSON
    value = entry.get(key) if isinstance(entry, dict) else None
    if value is None or isinstance(value, list | dict):
        msg = f"entry {number} of `{part}` in the COCO file has no `{key}`; add it"
        raise InvalidUpload(msg, field=field)
    return value
