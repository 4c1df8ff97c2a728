"""The grid of cells of an image: which pixels belong to which cell."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from auditcore.errors import ShapeError


def cell_index(height: int, width: int, grid: int, device: torch.device | str = "cpu") -> Int[Tensor, "height width"]:
    """Return the index of each pixel's cell: row floor(i g / H), column floor(j g / W), in row-major order.

    Args:
        height: Height in pixels.
        width: Width in pixels.
        grid: Cells per side, g.
        device: Where the result is needed.

    Returns:
        Indices from 0 to g*g - 1. If g does not divide a side, the sizes of the cells differ by one pixel.

    Raises:
        ShapeError: A side has more cells than pixels, so some would be empty.

    Source: Won et al. 2025.
    """
    require_grid(height, width, grid)
    return bands(height, grid, device)[:, None] * grid + bands(width, grid, device)


def bands(side: int, grid: int, device: torch.device | str) -> Int[Tensor, " position"]:
    """Return the row or column of cells that each position along a side belongs to."""
    return torch.arange(side, device=device) * grid // side


def require_grid(height: int, width: int, grid: int) -> None:
    """Refuse a grid with empty cells.

    Raises:
        ShapeError: A side has more cells than pixels.
    """
    if not 1 <= grid <= min(height, width):
        raise ShapeError(expected=f"1 to {min(height, width)} cells per side", actual=grid)
