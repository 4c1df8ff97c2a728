"""Bilinear resampling of a part of a map to a grid, for maps of models that see images at different sizes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.errors import ShapeError


def resample(
    maps: Float[Tensor, "image channel height width"],
    part: tuple[float, float, float, float],
    size: tuple[int, int],
) -> Float[Tensor, "image channel row column"]:
    """Resample a part of each map bilinearly, with antialiasing where the map is reduced.

    It gives the numbers of Pillow's `resize` of an image of floats, with its filter BILINEAR and a `box`. Pixels of the
    map around the part count where the filter reaches them.

    Args:
        maps: One map per image.
        part: Top, left, bottom and right of the part, in pixels of the map, not always whole ones.
        size: Rows and columns of the result.

    Returns:
        The part on the grid, float64. The map itself if the part is all of it and the size is its own.

    Raises:
        ShapeError: The part does not lie inside the map, or is empty.
    """
    height, width = maps.shape[2:]
    top, left, bottom, right = part
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise ShapeError(expected=f"a part of {height} rows and {width} columns", actual=part)
    wide = maps.double()
    if part == (0, 0, height, width) and size == (height, width):
        return wide
    rows = _weights(height, top, bottom, size[0]).to(maps.device)
    columns = _weights(width, left, right, size[1]).to(maps.device)
    return rows @ wide @ columns.T


def _weights(length: int, low: float, high: float, count: int) -> Float[Tensor, "position pixel"]:
    """Compute the weight of each pixel of an axis for each position of the grid, float64; each row sums to 1."""
    step = (high - low) / count
    # the filter reaches one pixel to each side, or one step where several pixels become one
    reach = max(step, 1.0)
    centers = low + (torch.arange(count, dtype=torch.float64) + 0.5) * step
    pixels = torch.arange(length, dtype=torch.float64) + 0.5
    weights = (1 - (pixels - centers[:, None]).abs() / reach).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)
