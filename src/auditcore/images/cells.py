"""The grid of cells of an image: which pixels belong to which cell."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from auditcore.counts.cells import Grid
from auditcore.errors import ShapeError


def cell_index(height: int, width: int, grid: Grid, device: torch.device | str = "cpu") -> Int[Tensor, "height width"]:
    """Return the index of each pixel's cell: row floor(i R / H), column floor(j C / W), in row-major order.

    Args:
        height: Height in pixels.
        width: Width in pixels.
        grid: Rows R and columns C.
        device: Where the result is needed.

    Returns:
        Indices from 0 to R*C - 1. If R does not divide H, the heights of the cells differ by one pixel; so do widths.

    Raises:
        ShapeError: There are more rows or columns than pixels, so some cells would be empty.

    Source: Won et al. 2025, for square images.
    """
    require_grid(height, width, grid)
    return bands(height, grid.rows, device)[:, None] * grid.columns + bands(width, grid.columns, device)


def bands(side: int, cells: int, device: torch.device | str) -> Int[Tensor, " position"]:
    """Return the row or column of cells that each position along a side belongs to."""
    return torch.arange(side, device=device) * cells // side


def require_grid(height: int, width: int, grid: Grid) -> None:
    """Refuse a grid with empty cells.

    Raises:
        ShapeError: There are more rows or columns than pixels.
    """
    if not (1 <= grid.rows <= height and 1 <= grid.columns <= width):
        raise ShapeError(expected=f"1 to {height} rows and 1 to {width} columns of cells", actual=tuple(grid))
