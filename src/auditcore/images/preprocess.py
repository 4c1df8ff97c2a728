"""Preprocessing: from an upright image to the model's input in pixel space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as vision

from auditcore.contracts.access import Limits
from auditcore.contracts.images import Box
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import LimitExceeded
from auditcore.images.placement import Placement, placement
from auditcore.images.reading import DecodedImage


class PixelBox(NamedTuple):
    """A rectangle in whole pixels of the model's input: columns x0 to x1, rows y0 to y1, ends excluded."""

    x0: int
    y0: int
    x1: int
    y1: int


def to_pixels(
    image: DecodedImage, preprocessing: Preprocessing, *, limits: Limits, field: str
) -> Float[Tensor, "channel height width"]:
    """Resize, crop or pad, and scale to [0, 1].

    Resampling is Pillow's, with antialiasing: for photos, the same numbers as torchvision's Resize, CenterCrop and
    ToTensor on a PIL image. Without antialiasing it is torch's, as torchvision does it on tensors.

    Args:
        image: As `read_image` returns it, with the channels of the model.
        preprocessing: Sizes in pixels and the interpolation; mean and std belong to the model and are not applied.
        limits: `image_pixels` also bounds the resized image, which can be larger than the original if that is very
            long.
        field: Path of the image in the request, for the error.

    Returns:
        float32 in pixel space [0, 1], on the CPU.

    Raises:
        LimitExceeded: The image is so long that it has too many pixels after resizing.
    """
    place = placement(image.size, preprocessing)
    if place.pixels > max(limits.image_pixels, preprocessing.shape.pixels):
        raise LimitExceeded(
            what="the image, resized for the model,",
            limit=limits.image_pixels,
            actual=place.pixels,
            unit="pixels",
            field=field,
        )
    low, high = image.range
    # in NumPy, which uses one thread: images are decoded in many threads, and torch would start a team in each of them
    planes = [_axes(_resized(plane, place, preprocessing)) for plane in image.planes]
    shown = [_shown(plane, place, preprocessing) for plane in planes]
    stored = np.concatenate(shown) if len(shown) > 1 else shown[0]
    # one call from bytes to contiguous floats: each call gives up Python's lock, for which threads then queue
    values = np.empty(stored.shape, np.float32)
    if low == 0:
        np.divide(stored, np.float32(high), out=values, dtype=np.float32)
    else:
        np.divide(stored - np.float32(low), np.float32(high - low), out=values, dtype=np.float32)
    if image.planes[0].mode == "F":
        values = values.clip(0, 1)
    return torch.from_numpy(_padded(values, place, preprocessing))


def pixel_boxes(
    boxes: Sequence[Box], image_size: tuple[int, int], preprocessing: Preprocessing
) -> tuple[PixelBox | None, ...]:
    """Map boxes of the upright image to the input that `to_pixels` returns.

    Edges are rounded to the nearest whole pixel. Rounding outward would enlarge every box by one pixel per side on
    average, and raise the share of relevance that an uninformative map places inside. A box keeps at least one pixel.

    Args:
        boxes: In pixels of the upright image, which has the EXIF orientation applied.
        image_size: Width and height of that image.
        preprocessing: Sizes in pixels.

    Returns:
        Each box, clipped to the input; None for a box entirely outside it.
    """
    width, height = image_size
    place = placement(image_size, preprocessing)
    scale_x, scale_y = place.width / width, place.height / height
    shape = preprocessing.shape
    found = []
    for box in boxes:
        x = _on_axis(box.x0 * scale_x - place.left, box.x1 * scale_x - place.left, shape.width)
        y = _on_axis(box.y0 * scale_y - place.top, box.y1 * scale_y - place.top, shape.height)
        found.append(None if x is None or y is None else PixelBox(x0=x[0], y0=y[0], x1=x[1], y1=y[1]))
    return tuple(found)


def _on_axis(low: float, high: float, side: int) -> tuple[int, int] | None:
    """Return the whole pixels of an interval on one axis of the input, or None if it lies outside."""
    low, high = max(low, 0.0), min(high, float(side))
    if low >= high:
        return None
    first, end = round(low), round(high)
    if first < end:
        return first, end
    # less than a pixel: take the one that contains its center
    first = int((low + high) / 2)
    return first, first + 1


def _resized(plane: Image.Image, place: Placement, preprocessing: Preprocessing) -> NDArray[Any]:
    """Return a plane resized, (H,W) or (H,W,3), as Pillow has it: bytes or float32."""
    size = (place.width, place.height)
    if plane.size != size:
        mode = InterpolationMode(preprocessing.interpolation)
        if not preprocessing.antialias and mode in _UNSMOOTHED:
            return _without_antialiasing(plane, place, mode)
        plane = plane.resize(size, _RESAMPLING[mode])
    return np.asarray(plane)


def _without_antialiasing(plane: Image.Image, place: Placement, mode: InterpolationMode) -> NDArray[np.float32]:
    values = np.array(plane)
    tensor = torch.from_numpy(values if values.ndim == 3 else values[:, :, None]).permute(2, 0, 1)  # noqa: PLR2004 - axes
    resized = vision.resize(tensor, [place.height, place.width], mode, antialias=False)
    found: NDArray[np.float32] = resized.permute(1, 2, 0).float().numpy()
    return found


def _axes(values: NDArray[Any]) -> NDArray[Any]:
    """Return (H,W) or (H,W,C) as (C,H,W)."""
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)  # noqa: PLR2004 - axes


def _shown(values: NDArray[Any], place: Placement, preprocessing: Preprocessing) -> NDArray[Any]:
    """Return the part of a resized image that the model sees."""
    _, height, width = preprocessing.shape
    top, left = max(place.top, 0), max(place.left, 0)
    return values[:, top : top + height, left : left + width]


def _padded(values: NDArray[np.float32], place: Placement, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return the model's input: what it sees of the image, surrounded by `pad` where that is smaller."""
    _, height, width = preprocessing.shape
    channels, *size = values.shape
    if tuple(size) == (height, width):
        return np.ascontiguousarray(values)
    pad = preprocessing.pad if isinstance(preprocessing.pad, tuple) else (preprocessing.pad,) * channels
    padded = np.empty((channels, height, width), np.float32)
    padded[:] = np.array(pad, np.float32)[:, None, None]
    above, before = max(-place.top, 0), max(-place.left, 0)
    padded[:, above : above + size[0], before : before + size[1]] = values
    return padded


_RESAMPLING = {
    InterpolationMode.NEAREST: Image.Resampling.NEAREST,
    InterpolationMode.BILINEAR: Image.Resampling.BILINEAR,
    InterpolationMode.BICUBIC: Image.Resampling.BICUBIC,
    InterpolationMode.LANCZOS: Image.Resampling.LANCZOS,
    InterpolationMode.BOX: Image.Resampling.BOX,
    InterpolationMode.HAMMING: Image.Resampling.HAMMING,
}
_UNSMOOTHED = {InterpolationMode.BILINEAR, InterpolationMode.BICUBIC}
"""Modes that torch has without antialiasing; the nearest pixel never has any, and the others cannot do without."""
