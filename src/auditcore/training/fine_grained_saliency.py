"""Fine-grained saliency: how much a pixel's brightness differs from that of its surroundings, on six scales.

Source: Montabone and Soto 2010, as OpenCV's `StaticSaliencyFineGrained` (opencv_contrib) computes it for 8-bit images.
OpenCV has only the submap of intensity. Roundings are those of OpenCV 5.0.0 too: maps are equal, but for images of more
than 2**24 / 255 pixels, where its sums in float32 are not exact. A submap that is 0 everywhere stays 0 here, where
OpenCV divides by 0, and the sum of both submaps may be above 255, where OpenCV's bytes end.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

_SURROUNDINGS_PX = (12, 24, 48, 28, 56, 112)
"""Half sides of the surroundings."""

_WEIGHTS_OF_BRIGHTNESS = (9798, 19235, 3735)
"""Of red, green and blue, of 2**15: ITU-R BT.601 as integers, as OpenCV has them."""

_RGB = 3


def fine_grained_saliency(
    pixels: Float[Tensor, "image channel height width"],
) -> Float[Tensor, "image height width"]:
    """Saliency of each pixel, whole numbers in [0,510]; 0 everywhere for images of one color.

    Args:
        pixels: Images in pixel space [0,1]; three channels are red, green and blue, others count alike.
    """
    gray = _twice_smoothed(_brightness(pixels))
    brighter, darker = torch.zeros_like(gray), torch.zeros_like(gray)
    sums = functional.pad(gray.cumsum(dim=1).cumsum(dim=2), (1, 0, 1, 0))
    for half in _SURROUNDINGS_PX:
        around = _mean_around(sums, gray, half)
        brighter += (gray.float() - around).clamp(min=0).floor()
        darker += (around - gray.float()).clamp(min=0).floor()
    brighter, darker = _of_255(brighter), _of_255(darker)
    largest = torch.maximum(brighter, darker).amax(dim=(1, 2), keepdim=True)
    return (255 * (brighter + darker) / largest.clamp(min=1)).floor().float()


def most_salient(pixels: Float[Tensor, "image channel height width"]) -> list[tuple[int, int]]:
    """Row and column of the most salient pixel of each image; the first one, row by row, if there are several."""
    saliency = fine_grained_saliency(pixels).cpu().numpy()
    first = saliency.reshape(len(saliency), -1).argmax(axis=1)
    rows, columns = np.unravel_index(first, saliency.shape[1:])
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _brightness(pixels: Tensor) -> Tensor:
    """(N,H,W), whole numbers in [0,255], in float64."""
    bytes_ = (pixels.double() * 255).round().clamp(0, 255)
    if pixels.shape[1] != _RGB:
        return bytes_.mean(dim=1).round()
    weights = torch.tensor(_WEIGHTS_OF_BRIGHTNESS, dtype=torch.float64, device=pixels.device)
    return ((bytes_ * weights[:, None, None]).sum(dim=1) / 2**15 + 0.5).floor()


def _twice_smoothed(gray: Tensor) -> Tensor:
    """Smoothed twice by (1 2 1) / 4 in both directions, rounded after each time; borders are mirrored."""
    for _ in range(2):
        gray = (_neighbors_added(_neighbors_added(gray, 1), 2) / 16 + 0.5).floor()
    return gray


def _neighbors_added(values: Tensor, axis: int) -> Tensor:
    """Twice each value and its neighbors along an axis; the neighbor of a border is that on its other side."""
    last = values.shape[axis] - 1
    position = torch.arange(last + 1, device=values.device)
    before = (position - 1).abs().clamp(max=last)
    after = (last - (last - position - 1).abs()).clamp(min=0)
    return 2 * values + values.index_select(axis, before) + values.index_select(axis, after)


def _mean_around(sums: Tensor, gray: Tensor, half: int) -> Tensor:
    """Mean of the pixels of a square around each pixel, without the pixel itself, as far as inside the image.

    Args:
        sums: (N,H+1,W+1): sum of all pixels above and to the left.
        gray: (N,H,W).
        half: The square begins `half - 1` pixels before the pixel and ends `half` pixels after it, as in OpenCV.
    """
    height, width = gray.shape[1:]
    row, column = torch.arange(height, device=gray.device), torch.arange(width, device=gray.device)
    top, bottom = (row - half + 1).clamp(min=0)[:, None], (row + half + 1).clamp(max=height)[:, None]
    left, right = (column - half + 1).clamp(min=0), (column + half + 1).clamp(max=width)
    inside = sums[:, bottom, right] + sums[:, top, left] - sums[:, bottom, left] - sums[:, top, right]
    others = (bottom - top) * (right - left) - 1
    # OpenCV divides in float32, which decides on roundings
    mean = (inside - gray).float() / others.clamp(min=1)
    return torch.where(others > 0, mean, gray.float())


def _of_255(submap: Tensor) -> Tensor:
    """A submap stretched so that its largest value is 255, rounded down."""
    largest = submap.amax(dim=(1, 2), keepdim=True)
    return (255 * (submap.float() / largest.float().clamp(min=1)).double()).floor()
