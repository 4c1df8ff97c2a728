"""Square cells of an image: which pixels form one."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from auditcore.errors import ShapeError


def cell_index(height: int, width: int, grid: int, device: torch.device | str = "cpu") -> Int[Tensor, "height width"]:
    """Number of the cell that holds each pixel: row floor(i g / H), column floor(j g / W), row by row.

    Args:
        height: Height in pixels.
        width: Width in pixels.
        grid: Cells per side, g.
        device: Where the result is needed.

    Returns:
        Indices from 0 to g*g - 1. Sides that g does not divide give cells that differ by one pixel.

    Raises:
        ShapeError: More cells than pixels on a side, so that some would be empty.

    Source: Won et al. 2025.
    """
    require_grid(height, width, grid)
    return bands(height, grid, device)[:, None] * grid + bands(width, grid, device)


def bands(side: int, grid: int, device: torch.device | str) -> Int[Tensor, " position"]:
    """Row or column of cells of each position along a side."""
    return torch.arange(side, device=device) * grid // side


def require_grid(height: int, width: int, grid: int) -> None:
    """Refuse a grid with empty cells.

    Raises:
        ShapeError: There are more cells than pixels on a side.
    """
    if not 1 <= grid <= min(height, width):
        raise ShapeError(expected=f"1 to {min(height, width)} cells a side", actual=grid)
