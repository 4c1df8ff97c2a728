"""Boxes in pixels of their image; boxes that are likely in another unit are refused."""

from __future__ import annotations

from collections.abc import Sequence

from auditcore.contracts.images import Box
from auditcore.errors import AnnotationInvalid

OVERHANG = 0.02
"""Share of a side by which a box may end beyond its image and is cut. Tools round outward, and detectors predict a
little more than there is; a box of another size or format is off by far more."""

LEAST_OVERHANG_PX = 2.0
"""The same in pixels, for small images."""


def boxes_in_pixels(boxes: Sequence[Box], image_size: tuple[int, int], *, field: str) -> tuple[Box, ...]:
    """Return boxes in pixels of their image.

    Args:
        boxes: Boxes of one image, in pixels or relative to it.
        image_size: Width and height of the upright image, in pixels.
        field: Path of the image in the request, for the error.

    Raises:
        AnnotationInvalid: A box in pixels is within the first pixel, so it is likely relative; or it ends beyond the
            image, so it is likely in pixels of another size or in another format.
    """
    width, height = image_size
    found = []
    for number, box in enumerate(boxes):
        if box.units == "relative":
            corners = {"x0": box.x0 * width, "y0": box.y0 * height, "x1": box.x1 * width, "y1": box.y1 * height}
            found.append(box.model_copy(update={**corners, "units": "pixels"}))
            continue
        fault = fault_of_box(box, image_size)
        if fault is not None:
            msg = f"box {number}, {corners_text(box)}, {fault}"
            raise AnnotationInvalid(msg, field=field)
        found.append(box)
    return tuple(found)


def corners_text(box: Box) -> str:
    """A box as messages quote it."""
    return f"[{box.x0:g}, {box.y0:g}, {box.x1:g}, {box.y1:g}]"


def fault_of_box(box: Box, image_size: tuple[int, int]) -> str | None:
    """Why a box is likely not in pixels of its image, and what to do; None if it can be."""
    width, height = image_size
    if box.is_likely_relative and max(image_size) > 1:
        return (
            f"lies within the first pixel of an image of {width} x {height} pixels, so it is likely relative to the "
            "image; declare the units `relative`, or the format `yolo`, or multiply by width and height"
        )
    if _reaches(box.x1, width) and _reaches(box.y1, height):
        return None
    beyond = f"ends beyond the image of {width} x {height} pixels"
    if width != height and _reaches(box.x1, height) and _reaches(box.y1, width):
        return (
            f"{beyond} but within {height} x {width}, so it was likely drawn before the image was rotated upright; "
            "rotate the box as well"
        )
    return (
        f"{beyond}, so it is likely in pixels of another size of the image, at least {box.x1:g} x {box.y1:g}; scale it "
        "to this size, or send the image that it was drawn on"
    )


def _reaches(end: float, side: int) -> bool:
    """Whether an end is within a side, or so little beyond it that it is cut there."""
    return end <= side + max(LEAST_OVERHANG_PX, OVERHANG * side)
