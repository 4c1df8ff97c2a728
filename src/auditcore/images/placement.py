"""Where an image comes to lie in the model's input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

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

    Sizes are rounded as torchvision's Resize rounds them.

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
            scales = (both.width / width, both.height / height)
            scale = min(scales) if fit == "letterbox" else max(scales)
            return max(1, round(width * scale)), max(1, round(height * scale))
        case fit:
            side = min(image_size) if fit == "shorter" else max(image_size)
            return max(1, int(both.width * width / side)), max(1, int(both.height * height / side))


def _offset(resized: int, wanted: int, rounding: CropOffset) -> int:
    if resized < wanted:
        return -((wanted - resized) // 2)
    return round((resized - wanted) / 2) if rounding == "round" else (resized - wanted) // 2
