"""Labels and boxes of the images of a batch, as JSON next to them. Knows no storage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from auditcore.contracts.images import Box, Boxes, Labels
from auditcore_service.use_cases.image_names import ImageNames
from auditcore_service.use_cases.refusals import InvalidUpload
from auditcore_service.use_cases.text_encoding import BYTE_ORDER_MARK

INTEGERS = range(2**53)
"""Integers with exactly one canonical JSON form, which the batch's digest needs."""

MOST_LABELS = 100
"""Most labels of an image."""

_QUOTED = 255
"""Largest number of characters of a value in a message, the same as for a file name."""

_EXAMPLES = {
    "labels": ("[285, null, [3, 17]]", '{"cat.png": 285}', "a class index, a list of them, or null"),
    "boxes": (
        "[[[10, 20, 110, 90]], null]",
        '{"cat.png": [{"x0": 10, "y0": 20, "x1": 110, "y1": 90, "label": 285}]}',
        "a list of boxes, or null",
    ),
}

_CORNERS = ("x0", "y0", "x1", "y1")

_BOX_FORM = (
    'write a box as [x0, y0, x1, y1] or {"x0": ..., "y0": ..., "x1": ..., "y1": ..., "label": ...}, '
    "in pixels of the original image"
)

_boxes = TypeAdapter(Boxes)


def read_labels(text: str | None, names: Sequence[str]) -> list[Labels | None]:
    """Read the label or labels of each image.

    Args:
        text: JSON: a list with one entry per image, or an object from file name to entry; an entry is a class index, a
            list of class indices for a multi-label model, or null. None or blank for no labels at all.
        names: File names of the images, in order.

    Raises:
        InvalidUpload: The text does not fit the images; `field` is `labels`; the message names the
            image and how to fix it.
    """
    return [_label(entry, _called(position, names)) for position, entry in enumerate(_entries("labels", text, names))]


def read_boxes(text: str | None, names: Sequence[str]) -> list[tuple[Box, ...]]:
    """Read the boxes of each image; empty for an image without boxes.

    Args:
        text: As for `read_labels`; an entry is a list of boxes or null, a box `[x0, y0, x1, y1]` or an object with
            these keys and optionally `label`, in pixels of the original image, ends excluded.
        names: File names of the images, in order.

    Raises:
        InvalidUpload: The text does not fit the images; `field` is `boxes`; the message names the
            image and how to fix it.
    """
    return [
        _image_boxes(entry, _called(position, names)) for position, entry in enumerate(_entries("boxes", text, names))
    ]


def _entries(field: Literal["labels", "boxes"], text: str | None, names: Sequence[str]) -> list[object]:
    """One entry per image, from a list or from an object by name."""
    if text is None or not text.strip():
        return [None] * len(names)
    as_list, as_object, entry = _EXAMPLES[field]
    try:
        # a byte order mark at the start of a part of a form
        parsed = json.loads(text.removeprefix(BYTE_ORDER_MARK))
    except (ValueError, RecursionError) as error:
        msg = f"{field} is not JSON ({error}); send a list such as {as_list} or an object such as {as_object}"
        raise InvalidUpload(msg, field=field) from error
    match parsed:
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
            msg = f"{field} must be a list with one entry per image, or an object from file name to entry: {entry}"
            raise InvalidUpload(msg, field=field)


def _called(position: int, names: Sequence[str]) -> str:
    return f"image {position} ({names[position]!r})"


def _label(entry: object, image: str) -> Labels | None:
    if entry is None:
        return None
    if not isinstance(entry, list):
        return _class_index(entry, image)
    labels = tuple(_class_index(label, image) for label in entry)
    if not 1 <= len(labels) <= MOST_LABELS:
        msg = f"{image} has a list of {len(labels)} labels; send 1 to {MOST_LABELS}, or null if none is known"
        raise InvalidUpload(msg, field="labels")
    if len(set(labels)) < len(labels):
        msg = f"{image} has the same label twice in {list(labels)}; send each once"
        raise InvalidUpload(msg, field="labels")
    return labels


def _class_index(label: object, image: str, field: Literal["labels", "boxes"] = "labels") -> int:
    # check the type first: `in` on a range compares every element with a value that is not an integer
    if not isinstance(label, int) or isinstance(label, bool) or label not in INTEGERS:
        forms = (
            "whole numbers from 0, a list of them, or null" if field == "labels" else "a whole number from 0, or null"
        )
        msg = f"label {_cut(label)} of {image} is not a class index; use {forms}"
        raise InvalidUpload(msg, field=field)
    return label


def _image_boxes(entry: object, image: str) -> tuple[Box, ...]:
    if entry is None:
        return ()
    if not isinstance(entry, list):
        msg = f"the boxes of {image} are not a list; {_BOX_FORM}, and send a list of boxes, even for one, or null"
        raise InvalidUpload(msg, field="boxes")
    boxes = tuple(_as_object(box, f"box {number} of {image}") for number, box in enumerate(entry))
    try:
        # strict: a corner of "10" or true is a mistake of the sender
        return _boxes.validate_python(boxes, strict=True)
    except ValidationError as error:
        raise InvalidUpload(_fault(error.errors()[0], len(boxes), image), field="boxes") from error


def _as_object(box: object, which: str) -> object:
    match box:
        case list() if len(box) == len(_CORNERS):
            return dict(zip(_CORNERS, box, strict=True))
        case dict():
            if box.get("label") is not None:
                _class_index(box["label"], which, "boxes")
            return box
        case _:
            msg = f"{which} is {_cut(box)}, which is not a box; {_BOX_FORM}"
            raise InvalidUpload(msg, field="boxes")


def _fault(error: ErrorDetails, count: int, image: str) -> str:
    """An error of pydantic, in terms of an upload."""
    if not error["loc"]:
        return f"{image} has {count} boxes, more than the {error['ctx']['max_length']} allowed; send the largest ones"
    number, *inside = error["loc"]
    where = "".join(f"{part}: " for part in inside)
    reason = error["msg"].removeprefix("Value error, ")
    return f"box {number} of {image} cannot be used: {where}{reason}; {_BOX_FORM}"


def _cut(value: object) -> str:
    """A value as a message quotes it, cut if it is long."""
    text = repr(value)
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."
