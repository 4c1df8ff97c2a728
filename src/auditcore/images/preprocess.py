"""Preprocessing: from an upright RGB image to the model's square input in pixel space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as vision

from auditcore.contracts.access import Limits
from auditcore.contracts.images import Box
from auditcore.contracts.models import Preprocessing
from auditcore.errors import LimitExceeded


class PixelBox(NamedTuple):
    """A rectangle in whole pixels of the model's square input: columns x0 to x1, rows y0 to y1, ends excluded."""

    x0: int
    y0: int
    x1: int
    y1: int


def to_pixels(
    image: Image.Image, preprocessing: Preprocessing, *, limits: Limits, field: str
) -> Float[Tensor, "channel height width"]:
    """Resize the shorter side, crop the center square, scale to [0, 1].

    Resampling is Pillow's, with antialiasing: the same numbers as torchvision's Resize, CenterCrop and ToTensor
    on a PIL image. An image of exactly `crop` x `crop` pixels is only scaled to [0, 1].

    Args:
        image: Mode RGB, as `decode_image` returns it.
        preprocessing: Sizes in pixels and the interpolation; mean and std belong to the model and are not applied.
        limits: `image_pixels` also bounds the resized image, which can be larger than the original if that is very
            long.
        field: Path of the image in the request, for the error.

    Returns:
        float32 RGB in pixel space [0, 1], on the CPU.

    Raises:
        LimitExceeded: The image is so long that it has too many pixels after resizing.
    """
    side = preprocessing.crop
    if image.size != (side, side):
        _check_resized(image, preprocessing.resize, limits, field)
        mode = InterpolationMode(preprocessing.interpolation)
        image = vision.resize(image, [preprocessing.resize], mode, antialias=True)
        image = vision.center_crop(image, [side, side])
    # in NumPy, which uses one thread: images are decoded in many threads, and torch would start a team in each of them
    values = np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
    return torch.from_numpy(np.ascontiguousarray(values))


def pixel_boxes(
    boxes: Sequence[Box], image_size: tuple[int, int], preprocessing: Preprocessing
) -> tuple[PixelBox | None, ...]:
    """Map boxes of the upright image to the square that `to_pixels` returns.

    Edges are rounded to the nearest whole pixel. Rounding outward would enlarge every box by one pixel per side on
    average, and raise the share of relevance that an uninformative map places inside. A box keeps at least one pixel.

    Args:
        boxes: In pixels of the image that `decode_image` returns, which has the EXIF orientation applied.
        image_size: Width and height of that image.
        preprocessing: Sizes in pixels.

    Returns:
        Each box, clipped to the square; None for a box entirely outside it.
    """
    width, height = image_size
    side = preprocessing.crop
    if image_size == (side, side):
        return tuple(_on_square(box, 1.0, 1.0, 0, 0, side) for box in boxes)
    short, resize = min(image_size), preprocessing.resize
    # as torchvision resizes and crops; `to_pixels` is tested against both
    new_width, new_height = (int(resize * length / short) for length in image_size)
    left, top = round((new_width - side) / 2), round((new_height - side) / 2)
    return tuple(_on_square(box, new_width / width, new_height / height, left, top, side) for box in boxes)


def _on_square(box: Box, scale_x: float, scale_y: float, left: int, top: int, side: int) -> PixelBox | None:
    x = _on_axis(box.x0 * scale_x - left, box.x1 * scale_x - left, side)
    y = _on_axis(box.y0 * scale_y - top, box.y1 * scale_y - top, side)
    return None if x is None or y is None else PixelBox(x0=x[0], y0=y[0], x1=x[1], y1=y[1])


def _on_axis(low: float, high: float, side: int) -> tuple[int, int] | None:
    """Return the whole pixels of an interval on one axis of the square, or None if it lies outside."""
    low, high = max(low, 0.0), min(high, float(side))
    if low >= high:
        return None
    first, end = round(low), round(high)
    if first < end:
        return first, end
    # less than a pixel: take the one that contains its center
    first = int((low + high) / 2)
    return first, first + 1


def _check_resized(image: Image.Image, resize: int, limits: Limits, field: str) -> None:
    pixels = resize * resize * max(image.size) // min(image.size)
    if pixels > limits.image_pixels:
        raise LimitExceeded(
            what="the image, resized for the model,",
            limit=limits.image_pixels,
            actual=pixels,
            unit="pixels",
            field=field,
        )
