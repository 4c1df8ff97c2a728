"""Labels, boxes and masks of the images of a batch, as they are sent with it. Knows no storage."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, final, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from auditcore.contracts.images import Box, Boxes, Labels
from auditcore.contracts.masks import MASK_BYTES, Mask, Masks
from auditcore_service.use_cases.class_folders import class_folders, labels_from_folders
from auditcore_service.use_cases.class_names import ClassNames, cut, read_classes
from auditcore_service.use_cases.coco import CocoObjects, is_coco, is_position, read_coco
from auditcore_service.use_cases.image_names import ImageNames
from auditcore_service.use_cases.label_tables import is_table, read_label_table
from auditcore_service.use_cases.refusals import InvalidUpload
from auditcore_service.use_cases.text_encoding import BYTE_ORDER_MARK

MOST_LABELS = 100
"""Most labels of an image."""

BoxFormat = Literal["xyxy", "xywh", "relative", "yolo"]
"""What the four numbers of a box are: corners x0, y0, x1, y1 in pixels; x, y, width, height in pixels, as in COCO;
corners relative to the image; or center x, center y, width, height relative to the image, as in YOLO, with the class in
front if there are five."""

_FORMS: Mapping[str, str] = {
    "xyxy": "[x0, y0, x1, y1] in pixels of the original image",
    "xywh": "[x, y, width, height] in pixels of the original image",
    "relative": "[x0, y0, x1, y1] relative to the image, from 0 to 1",
    "yolo": "[center x, center y, width, height] relative to the image, or with the class in front",
}

_EXAMPLES = {
    "labels": ("[285, null, [3, 17]]", '{"cat.png": 285}', "a class index, a list of them, or null"),
    "boxes": (
        "[[[10, 20, 110, 90]], null]",
        '{"cat.png": [{"x0": 10, "y0": 20, "x1": 110, "y1": 90, "label": 285}]}',
        "a list of boxes, or null",
    ),
    "masks": (
        "[[[10, 20, 110, 20, 60, 90]], null]",
        '{"cat.png": [{"polygons": [[10, 20, 110, 20, 60, 90]], "label": 285}]}',
        "a list of masks, or null",
    ),
}

_CORNERS = ("x0", "y0", "x1", "y1")

_ROUNDING = 1e-3
"""By how much a relative box may end beyond its image: YOLO files have six digits, and tools round to three."""

_MASK_FORM = (
    "write a mask as a polygon [x0, y0, x1, y1, ...], or as an object with `polygons`, `rle` or `png` and optionally "
    "`label`, in pixels of the original image"
)

_boxes = TypeAdapter(Boxes)
_masks = TypeAdapter(Masks)


@final
@dataclass(frozen=True)
class MaskFile:
    """A PNG of a mask.

    Attributes:
        name: Its file name: that of its image, with any ending, and with or without `_mask`.
        data: Its bytes.
    """

    name: str
    data: bytes


@final
@dataclass(frozen=True)
class GivenAnnotations:
    """What is known of the images of a batch, as it was sent.

    Attributes:
        labels: JSON or a table for `read_labels`.
        boxes: JSON for `read_boxes`, or an annotation file of COCO.
        masks: JSON for `read_masks`, or an annotation file of COCO.
        annotations: An annotation file of COCO, or a table of labels.
        classes: Names of the model's classes for `read_classes`.
        box_format: One of `BoxFormat`; corners in pixels if None.
        mask_files: Masks as PNG files.
        from_folders: Whether the folder of an image is its label.
    """

    labels: str | None = None
    boxes: str | None = None
    masks: str | None = None
    annotations: str | None = None
    classes: str | None = None
    box_format: str | None = None
    mask_files: tuple[MaskFile, ...] = ()
    from_folders: bool = False


class ImageAnnotations(NamedTuple):
    """What is known of one image.

    Attributes:
        label: Its class or classes; None if unknown.
        boxes: Boxes around objects.
        masks: Masks of objects.
    """

    label: Labels | None
    boxes: tuple[Box, ...]
    masks: tuple[Mask, ...]


def read_annotations(given: GivenAnnotations, names: Sequence[str]) -> list[ImageAnnotations]:
    """Read what is known of each image.

    Args:
        given: What was sent.
        names: File names of the images, in order.

    Raises:
        InvalidUpload: Something does not fit the images, or two parts of the upload say the same; the message names the
            image and how to fix it.
    """
    classes = read_classes(given.classes)
    labels = read_labels(given.labels, names, classes)
    boxes = read_boxes(given.boxes, names, classes, given.box_format)
    masks = read_masks(given.masks, names, classes)
    for position, mask in _of_files(given.mask_files, names):
        masks[position] = (*masks[position], mask)
    if given.from_folders:
        _refuse_both(given.labels, "labels_from_folders", "labels")
        labels = list(labels_from_folders(class_folders(names, classes), classes))
    text = (given.annotations or "").removeprefix(BYTE_ORDER_MARK)
    if text.strip():
        found = _table_or_coco(text, names, classes)
        for kind, sent in (("boxes", given.boxes), ("masks", given.masks or given.mask_files)):
            if any(getattr(one, kind) for one in found):
                _refuse_both(sent, "annotations", kind)
        if given.labels is None and not given.from_folders:
            labels = [_one_or_several(one.labels) for one in found]
        boxes = [one.boxes or own for one, own in zip(found, boxes, strict=True)]
        masks = [one.masks or own for one, own in zip(found, masks, strict=True)]
    return [ImageAnnotations(*of_image) for of_image in zip(labels, boxes, masks, strict=True)]


def read_class_names(given: GivenAnnotations, names: Sequence[str]) -> tuple[str, ...]:
    """Read the names of the model's classes: those that were sent, or the folders if these are the classes.

    Args:
        given: What was sent.
        names: File names of the images, in order.

    Raises:
        InvalidUpload: The names cannot be read, or one occurs twice.
    """
    classes = read_classes(given.classes)
    return classes.names or (tuple(sorted(set(class_folders(names, classes)))) if given.from_folders else ())


def read_labels(text: str | None, names: Sequence[str], classes: ClassNames | None = None) -> list[Labels | None]:
    """Read the label or labels of each image.

    Args:
        text: JSON: a list with one entry per image, or an object from file name to entry; an entry is a class, a
            list of classes for a multi-label model, or null. Or a table for `read_label_table`. None or blank for no
            labels at all.
        names: File names of the images, in order.
        classes: Names of the model's classes, by which a label may be a name.

    Raises:
        InvalidUpload: The text does not fit the images; `field` is `labels`; the message names the
            image and how to fix it.
    """
    classes = classes or ClassNames()
    # a byte order mark at the start of a part of a form
    text = (text or "").removeprefix(BYTE_ORDER_MARK)
    if is_table(text):
        return [_one_or_several(found) for found in read_label_table(text, names, classes, "labels")]
    return [
        _label(entry, _called(position, names), classes)
        for position, entry in enumerate(_entries("labels", _parsed("labels", text), names))
    ]


def read_boxes(
    text: str | None, names: Sequence[str], classes: ClassNames | None = None, box_format: str | None = None
) -> list[tuple[Box, ...]]:
    """Read the boxes of each image; empty for an image without boxes.

    Args:
        text: As for `read_labels`; an entry is a list of boxes or null, a box four numbers or an object with the keys
            x0, y0, x1, y1 and optionally `label` and `units`. Or an annotation file of COCO.
        names: File names of the images, in order.
        classes: Names of the model's classes, by which a label may be a name.
        box_format: One of `BoxFormat`, which four numbers have; corners in pixels if None.

    Raises:
        InvalidUpload: The text does not fit the images, or boxes are likely in another unit; `field` is `boxes`; the
            message names the image and how to fix it.
    """
    classes = classes or ClassNames()
    if box_format is not None and box_format not in get_args(BoxFormat):
        msg = f"box_format is {cut(box_format)}; send one of {', '.join(get_args(BoxFormat))}"
        raise InvalidUpload(msg, field="box_format")
    parsed = _parsed("boxes", text)
    if is_coco(parsed):
        return [one.boxes for one in read_coco(parsed, names, classes, "boxes", masks=False)]
    return [
        _image_boxes(entry, _called(position, names), classes, box_format or "xyxy")
        for position, entry in enumerate(_entries("boxes", parsed, names))
    ]


def read_masks(text: str | None, names: Sequence[str], classes: ClassNames | None = None) -> list[tuple[Mask, ...]]:
    """Read the masks of each image; empty for an image without masks.

    Args:
        text: As for `read_labels`; an entry is a list of masks or null, a mask the corners of a polygon or an object
            with `polygons`, `rle` or `png` (in base64) and optionally `label`. Or an annotation file of COCO.
        names: File names of the images, in order.
        classes: Names of the model's classes, by which a label may be a name.

    Raises:
        InvalidUpload: The text does not fit the images; `field` is `masks`; the message names the image and how to fix
            it.
    """
    classes = classes or ClassNames()
    parsed = _parsed("masks", text)
    if is_coco(parsed):
        return [one.masks for one in read_coco(parsed, names, classes, "masks")]
    return [
        _image_masks(entry, _called(position, names), classes)
        for position, entry in enumerate(_entries("masks", parsed, names))
    ]


def _parsed(field: Literal["labels", "boxes", "masks"], text: str | None) -> Any:  # noqa: ANN401 - plain JSON
    """The JSON of a text, or None if it is blank."""
    # a byte order mark at the start of a part of a form
    text = (text or "").removeprefix(BYTE_ORDER_MARK)
    if not text.strip():
        return None
    try:
        return json.loads(text, object_pairs_hook=_named_once)
    except (ValueError, RecursionError) as error:
        as_list, as_object, _ = _EXAMPLES[field]
        msg = f"{field} is not JSON ({error}); send a list such as {as_list} or an object such as {as_object}"
        raise InvalidUpload(msg, field=field) from error


def _named_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, of which the parser would keep only the last of several entries with one name.

    Raises:
        ValueError: A name occurs twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        counted = Counter(name for name, _ in pairs)
        msg = f"it has {cut(counted.most_common(1)[0][0])} twice"
        raise ValueError(msg)
    return found


def _entries(field: Literal["labels", "boxes", "masks"], parsed: object, names: Sequence[str]) -> list[object]:
    """One entry per image, from a list or from an object by name."""
    match parsed:
        case None:
            return [None] * len(names)
        case list():
            if len(parsed) != len(names):
                msg = f"{field} has {len(parsed)} entries for {len(names)} images; send one per image, null if unknown"
                raise InvalidUpload(msg, field=field)
            return parsed
        case dict():
            known = ImageNames(names)
            positions = {known.position(name, field): value for name, value in parsed.items()}
            if len(positions) < len(parsed):
                msg = f"{field} names an image twice, with and without its folder; name each once"
                raise InvalidUpload(msg, field=field)
            return [positions.get(position) for position in range(len(names))]
        case _:
            entry = _EXAMPLES[field][2]
            msg = f"{field} must be a list with one entry per image, or an object from file name to entry: {entry}"
            raise InvalidUpload(msg, field=field)


def _table_or_coco(text: str, names: Sequence[str], classes: ClassNames) -> list[CocoObjects]:
    if is_table(text):
        rows = read_label_table(text, names, classes, "annotations")
        return [CocoObjects(labels=tuple(labels)) for labels in rows]
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"annotations is neither JSON ({error}) nor a table; send a COCO file, or CSV with file name and label"
        raise InvalidUpload(msg, field="annotations") from error
    if not is_coco(document):
        msg = (
            "annotations is JSON, but no COCO file with `images` and `annotations`; send other JSON as `labels`, "
            "`boxes` or `masks`"
        )
        raise InvalidUpload(msg, field="annotations")
    return read_coco(document, names, classes, "annotations")


def _called(position: int, names: Sequence[str]) -> str:
    return f"image {position} ({names[position]!r})"


def _label(entry: object, image: str, classes: ClassNames) -> Labels | None:
    if entry is None:
        return None
    if not isinstance(entry, list):
        return classes.index(entry, image, "labels")
    labels = tuple(classes.index(label, image, "labels") for label in entry)
    if not 1 <= len(labels) <= MOST_LABELS:
        msg = f"{image} has a list of {len(labels)} labels; send 1 to {MOST_LABELS}, or null if none is known"
        raise InvalidUpload(msg, field="labels")
    if len(set(labels)) < len(labels):
        msg = f"{image} has the same label twice in {list(labels)}; send each once"
        raise InvalidUpload(msg, field="labels")
    return labels


def _one_or_several(labels: Sequence[int]) -> Labels | None:
    if not labels:
        return None
    return labels[0] if len(labels) == 1 else tuple(labels[:MOST_LABELS])


def _image_boxes(entry: object, image: str, classes: ClassNames, box_format: str) -> tuple[Box, ...]:
    if entry is None:
        return ()
    form = f'write a box as {_FORMS[box_format]}, or as {{"x0": ..., "y0": ..., "x1": ..., "y1": ..., "label": ...}}'
    if not isinstance(entry, list):
        msg = f"the boxes of {image} are not a list; {form}, and send a list of boxes, even for one, or null"
        raise InvalidUpload(msg, field="boxes")
    sent = tuple(
        _as_object(box, f"box {number} of {image}", classes, box_format, form) for number, box in enumerate(entry)
    )
    try:
        # strict: a corner of "10" or true is a mistake of the sender
        boxes = _boxes.validate_python(sent, strict=True)
    except ValidationError as error:
        if box_format == "xyxy":
            form += "; declare the box_format `xywh` for x, y, width, height, or `yolo`"
        raise InvalidUpload(_fault("box", error.errors()[0], len(sent), image, form), field="boxes") from error
    for number, box in enumerate(boxes):
        if box.is_likely_relative:
            msg = (
                f"box {number} of {image} ends within the first pixel, so it is likely relative to the image; declare "
                "the box_format `yolo` or `relative`, or send pixels of the original image"
            )
            raise InvalidUpload(msg, field="boxes")
    return boxes


def _as_object(box: object, which: str, classes: ClassNames, box_format: str, form: str) -> object:
    match box:
        case list() if len(box) == len(_CORNERS):
            return _in_corners(box, box_format)
        case [label, *numbers] if box_format == "yolo" and len(numbers) == len(_CORNERS):
            return {**_in_corners(numbers, box_format), "label": classes.index(label, which, "boxes")}
        case dict():
            label = box.get("label")
            return box if label is None else {**box, "label": classes.index(label, which, "boxes")}
        case _:
            msg = f"{which} is {cut(box)}, which is not a box; {form}"
            raise InvalidUpload(msg, field="boxes")


def _in_corners(numbers: Sequence[Any], box_format: str) -> dict[str, object]:
    """Four numbers as corners; what is not a number is left to validation."""
    plain = all(map(is_position, numbers))
    corners = list(numbers)
    if plain and box_format == "xywh":
        x, y, width, height = numbers
        corners = [x, y, x + width, y + height]
    elif plain and box_format == "yolo":
        x, y, width, height = numbers
        corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    units = "relative" if box_format in {"relative", "yolo"} else "pixels"
    if plain and units == "relative":
        corners = [min(max(value, 0.0), 1.0) if -_ROUNDING <= value <= 1 + _ROUNDING else value for value in corners]
    return {**dict(zip(_CORNERS, corners, strict=True)), "units": units}


def _image_masks(entry: object, image: str, classes: ClassNames) -> tuple[Mask, ...]:
    if entry is None:
        return ()
    if not isinstance(entry, list):
        msg = f"the masks of {image} are not a list; {_MASK_FORM}, and send a list of masks, even for one, or null"
        raise InvalidUpload(msg, field="masks")
    masks = tuple(_as_mask(mask, f"mask {number} of {image}", classes) for number, mask in enumerate(entry))
    try:
        return _masks.validate_python(masks)
    except ValidationError as error:
        raise InvalidUpload(_fault("mask", error.errors()[0], len(masks), image, _MASK_FORM), field="masks") from error


def _as_mask(mask: object, which: str, classes: ClassNames) -> object:
    match mask:
        case list():
            return {"polygons": [mask]}
        case {"counts": _, **_rest}:
            return {"rle": mask}
        case dict():
            label = mask.get("label")
            return mask if label is None else {**mask, "label": classes.index(label, which, "masks")}
        case _:
            msg = f"{which} is {cut(mask)}, which is not a mask; {_MASK_FORM}"
            raise InvalidUpload(msg, field="masks")


def _of_files(files: Sequence[MaskFile], names: Sequence[str]) -> list[tuple[int, Mask]]:
    """Position of the image of each file, and the mask in it."""
    stems = ImageNames([_stem(name) for name in names])
    found = []
    for file in files:
        if len(file.data) > MASK_BYTES:
            msg = f"the mask {file.name!r} has more than {MASK_BYTES} bytes; save it with 1 bit per pixel"
            raise InvalidUpload(msg, field="masks")
        stem = _stem(file.name)
        bare = next((stem.removesuffix(end) for end in ("_mask", "-mask", ".mask") if stem.endswith(end)), stem)
        # the folder of the file may be that of its image, or one of masks
        tried = (stem, bare, stem.rpartition("/")[2], bare.rpartition("/")[2])
        positions = next(filter(None, map(stems.positions, tried)), [])
        if len(positions) != 1:
            what = "no image" if not positions else f"{len(positions)} images"
            msg = f"the mask {file.name!r} is named after {what} of the batch; give it the name of its image"
            raise InvalidUpload(msg, field="masks")
        found.append((positions[0], Mask.of_png(file.data)))
    return found


def _refuse_both(given: object, field: str, other: str) -> None:
    if given:
        msg = f"{field} and {other} both say the same of the images; send one of them"
        raise InvalidUpload(msg, field=other)


def _fault(what: str, error: ErrorDetails, count: int, image: str, form: str) -> str:
    """An error of pydantic, in terms of an upload."""
    if not error["loc"]:
        several = "boxes" if what == "box" else "masks"
        return (
            f"{image} has {count} {several}, more than the {error['ctx']['max_length']} allowed; send the largest ones"
        )
    number, *inside = error["loc"]
    where = "".join(f"{part}: " for part in inside)
    reason = error["msg"].removeprefix("Value error, ")
    return f"{what} {number} of {image} cannot be used: {where}{reason}; {form}"


def _stem(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.rpartition('.')[0] or last}"
