"""Masks of objects: from polygons, run lengths and PNG files to pixels of the model's input."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image
from torch import Tensor

from auditcore.contracts.masks import Mask, Polygon
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.run_lengths import RunLengths
from auditcore.errors import AnnotationInvalid
from auditcore.images.box_units import LEAST_OVERHANG_PX, OVERHANG
from auditcore.images.decode import reason_of
from auditcore.images.placement import placement

PNG_MODES = frozenset({"1", "L", "P", "I;16", "I", "RGB", "LA", "RGBA"})
"""Modes in which Pillow opens a PNG."""

_COLOR_BANDS = {"LA": 1, "RGBA": 3}
"""Bands of color before the band of opacity."""


def mask_pixels(mask: Mask, image_size: tuple[int, int], *, field: str) -> Bool[np.ndarray, "height width"]:
    """Return which pixels of the original image belong to an object.

    Args:
        mask: The object.
        image_size: Width and height of the upright image, in pixels.
        field: Path of the image in the request, for the error.

    Raises:
        AnnotationInvalid: The mask has another size than the image, is no PNG, or shows no object.
    """
    width, height = image_size
    if mask.rle is not None:
        _require_size((mask.rle.size[1], mask.rle.size[0]), image_size, "run lengths", field)
        found = run_length_pixels(mask.rle)
    elif mask.polygons is not None:
        _require_inside(mask.polygons, image_size, field)
        found = np.zeros((height, width), dtype=bool)
        for polygon in mask.polygons:
            found |= polygon_pixels(polygon, height, width)
    else:
        found = _png_pixels(mask.png or b"", image_size, field)
    if not found.any():
        msg = "a mask has no pixel; leave it out, or check that pixels of the object are not 0"
        raise AnnotationInvalid(msg, field=field)
    return found


def mask_on_input(
    pixels: Bool[np.ndarray, "height width"], preprocessing: Preprocessing
) -> Bool[Tensor, "input_height input_width"]:
    """Resize and crop a mask as `to_pixels` does with its image; the nearest pixel decides.

    Args:
        pixels: A mask of the size of the original image.
        preprocessing: Sizes in pixels.
    """
    _, height, width = preprocessing.shape
    image = Image.fromarray(pixels.astype(np.uint8) * 255)
    place = placement(image.size, preprocessing)
    resized = image.resize((place.width, place.height), Image.Resampling.NEAREST)
    # what lies beyond the image is outside of the object
    cropped = resized.crop((place.left, place.top, place.left + width, place.top + height))
    return torch.from_numpy(np.asarray(cropped) > 0)


def run_length_pixels(runs: RunLengths) -> Bool[np.ndarray, "height width"]:
    """Return the pixels of a mask in COCO's run-length encoding.

    Source: `rleDecode` of the COCO API: column by column, the first run is outside.
    """
    height, width = runs.size
    lengths = np.asarray(runs.lengths, dtype=np.int64)
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(width, height).T


def polygon_pixels(polygon: Polygon, height: int, width: int) -> Bool[np.ndarray, "height width"]:
    """Return the pixels whose center lies inside a polygon; where it crosses itself, by the even-odd rule.

    Args:
        polygon: x0, y0, x1, y1 ..., in pixels; pixel (row, column) has its center at x = column + 0.5, y = row + 0.5.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
    """
    corners = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
    changes = np.zeros((height, width + 1), dtype=np.int64)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        # rows whose center line the edge crosses; half open, so that a corner on the line counts once
        rows = np.arange(max(0, int(np.ceil(min(y0, y1) - 0.5))), min(height, int(np.ceil(max(y0, y1) - 0.5))))
        crossed = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0)) if len(rows) else np.empty(0)
        columns = np.clip(np.ceil(crossed - 0.5), 0, width).astype(np.int64)
        np.add.at(changes, (rows, columns), 1)
    inside: np.ndarray = np.cumsum(changes, axis=1)[:, :width] % 2 == 1
    return inside


def _png_pixels(data: bytes, image_size: tuple[int, int], field: str) -> Bool[np.ndarray, "height width"]:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            # before a pixel is decoded
            _require_size(image.size, image_size, "PNG", field)
            values: np.ndarray = np.asarray(image)
            palette = image.getpalette() if image.mode == "P" else None
            bands = _COLOR_BANDS.get(image.mode)
    except AnnotationInvalid:
        raise
    except Exception as error:
        # every type: on damaged bytes, Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error ...
        msg = f"a mask is not a complete PNG ({reason_of(error)}); export it again"
        raise AnnotationInvalid(msg, field=field) from error
    inside: np.ndarray = np.asarray(values != 0)
    if palette is not None:
        return _colored(values, palette)
    if inside.ndim == 2:  # noqa: PLR2004 - axes
        return inside
    shown: np.ndarray = np.any(inside[..., :bands], axis=2)
    return shown if bands is None else np.logical_and(shown, inside[..., bands])


def _colored(indices: UInt8[np.ndarray, "height width"], palette: Sequence[int]) -> Bool[np.ndarray, "height width"]:
    """The pixels of an object in an image of a palette: those that are not of the first color.

    Programs that reduce a mask of black and white to two colors order them as they like. So if the first color is not
    black and another one in the image is, black is outside.

    Args:
        indices: Color of each pixel.
        palette: Red, green and blue of each color.
    """
    # colors that the file does not name are black
    black = np.ones(256, dtype=bool)
    black[: len(palette) // 3] = ~np.asarray(palette).reshape(-1, 3).any(axis=1)
    used = np.unique(indices)
    if not black[0] and black[used].any():
        inside: np.ndarray = ~black[indices]
        return inside
    return np.asarray(indices != 0)


def _require_size(size: tuple[int, int], image_size: tuple[int, int], what: str, field: str) -> None:
    if size != image_size:
        msg = (
            f"a mask ({what}) has {size[0]} x {size[1]} pixels and its image {image_size[0]} x {image_size[1]}; send "
            "masks of the size of the upright original image"
        )
        raise AnnotationInvalid(msg, field=field)


def _require_inside(polygons: Sequence[Polygon], image_size: tuple[int, int], field: str) -> None:
    corners = np.concatenate([np.asarray(polygon).reshape(-1, 2) for polygon in polygons])
    width, height = image_size
    largest = corners.max(axis=0)
    if largest.max() <= 1 < max(image_size):
        msg = (
            f"a polygon lies within the first pixel of an image of {width} x {height} pixels, so it is likely relative "
            "to the image; multiply its corners by width and height"
        )
        raise AnnotationInvalid(msg, field=field)
    allowed = np.maximum(LEAST_OVERHANG_PX, OVERHANG * np.asarray(image_size))
    if (largest > np.asarray(image_size) + allowed).any() or (corners.min(axis=0) < -allowed).any():
        low, high = corners.min(axis=0), largest
        msg = (
            f"a polygon from ({low[0]:g}, {low[1]:g}) to ({high[0]:g}, {high[1]:g}) reaches beyond the image of "
            f"{width} x {height} pixels, so it is likely in pixels of another size of the image; scale it to this size"
        )
        raise AnnotationInvalid(msg, field=field)
