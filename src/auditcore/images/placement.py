"""Where an image comes to lie in the model's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

from auditcore.contracts.preprocessing import CropOffset, Preprocessing, Size


@final
@dataclass(frozen=True)
class Placement:
    """How an image is resized and cropped.

    Attributes:
        width: Width to which the whole image is resized, in pixels.
        height: Height to which it is resized.
        left: Column of the resized image that becomes the first of the input; negative where it is padded.
        top: Row of the resized image that becomes the first of the input; negative where it is padded.
    """

    width: int
    height: int
    left: int
    top: int

    @property
    def pixels(self) -> int:
        """Pixels of the resized image."""
        return self.width * self.height


def placement(image_size: tuple[int, int], preprocessing: Preprocessing) -> Placement:
    """Return how an image is resized and cropped for the model.

    Sizes are rounded as torchvision's Resize rounds them, and timm's ResizeKeepRatio for `letterbox` and `cover`.

    Args:
        image_size: Width and height of the upright image.
        preprocessing: Sizes of the model's input.
    """
    _, height, width = preprocessing.shape
    if preprocessing.keep_final and image_size == (width, height):
        return Placement(width, height, 0, 0)
    new_width, new_height = _resized(image_size, preprocessing)
    return Placement(
        new_width,
        new_height,
        _offset(new_width, width, preprocessing.crop_offset),
        _offset(new_height, height, preprocessing.crop_offset),
    )


class InputPart(NamedTuple):
    """A part of a model's input: row `top` to `bottom`, column `left` to `right`, in pixels, not always whole ones."""

    top: float
    left: float
    bottom: float
    right: float


def part_seen_by_both(
    image_size: tuple[int, int], first: Preprocessing, second: Preprocessing
) -> tuple[InputPart, InputPart]:
    """Return the part of an image that two models see, in the input of each. Every model sees the center.

    Args:
        image_size: Width and height of the upright image.
        first: Sizes of the input of one model.
        second: Sizes of the input of the other.
    """
    both = [(placement(image_size, each), each.shape) for each in (first, second)]
    rows = _common([(place.top, place.height, shape.height) for place, shape in both])
    columns = _common([(place.left, place.width, shape.width) for place, shape in both])
    one, other = (
        InputPart(top, left, bottom, right) for (top, bottom), (left, right) in zip(rows, columns, strict=True)
    )
    return one, other


def _common(axes: Sequence[tuple[int, int, int]]) -> list[tuple[float, float]]:
    """Return where the common part begins and ends on one axis of each input.

    Args:
        axes: Offset of an input in the resized image, length of that image, and length of the input.
    """
    begin = max(0.0, *(offset / length for offset, length, _ in axes))
    end = min(1.0, *((offset + side) / length for offset, length, side in axes))
    # the products are whole numbers again where an input ends, except for rounding
    return [(round(begin * length - offset, 6), round(end * length - offset, 6)) for offset, length, _ in axes]


def _resized(image_size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    resize = preprocessing.resize
    if resize is None:
        return image_size
    both = resize if isinstance(resize, Size) else Size(height=resize, width=resize)
    width, height = image_size
    match preprocessing.fit:
        case "squash":
            return both.width, both.height
        case "letterbox" | "cover" as fit:
            # divided by, not multiplied with its inverse: halves of a pixel are then rounded as timm rounds them
            ratios = (width / both.width, height / both.height)
            ratio = max(ratios) if fit == "letterbox" else min(ratios)
            return max(1, round(width / ratio)), max(1, round(height / ratio))
        case fit:
            side = min(image_size) if fit == "shorter" else max(image_size)
            return max(1, int(both.width * width / side)), max(1, int(both.height * height / side))


def _offset(resized: int, wanted: int, rounding: CropOffset) -> int:
    if resized < wanted:
        return -((wanted - resized) // 2)
    return round((resized - wanted) / 2) if rounding == "round" else (resized - wanted) // 2
