"""The grid of a deletion curve: which pixels form a cell, how relevant it is, when it goes."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from auditcore.errors import ShapeError

FINE_GRID, COARSE_GRID, FINE_FROM_PX = 14, 8, 128


def default_grid(height: int, width: int) -> int:
    """Cells a side: 14 where both sides have at least 128 pixels, else 8.

    Source: Won et al. 2025 (14 at 224 pixels, 8 at 32).
    """
    return FINE_GRID if min(height, width) >= FINE_FROM_PX else COARSE_GRID


def cell_index(height: int, width: int, grid: int, device: torch.device | str = "cpu") -> Int[Tensor, "height width"]:
    """Number of the cell that holds each pixel: row floor(i g / H), column floor(j g / W), row by row.

    Args:
        height: Height in pixels.
        width: Width in pixels.
        grid: Cells a side, g.
        device: Where the result shall live.

    Returns:
        Indices from 0 to g*g - 1. Sides that g does not divide give cells that differ by one pixel.

    Raises:
        ShapeError: More cells than pixels on a side, so that some would be empty.

    Source: Won et al. 2025.
    """
    _require_grid(height, width, grid)
    return _bands(height, grid, device)[:, None] * grid + _bands(width, grid, device)


def cell_relevance(maps: Float[Tensor, "image height width"], grid: int) -> Float[Tensor, "image cell"]:
    """Mean relevance of the pixels of each cell.

    Args:
        maps: Reduced maps, one value a pixel.
        grid: Cells a side, g.

    Returns:
        (N, g*g) in float64: rounding to float32 would make ties, and a tie is decided by chance.

    Raises:
        ShapeError: More cells than pixels on a side.

    Source: Won et al. 2025.
    """
    height, width = maps.shape[-2:]
    _require_grid(height, width, grid)
    # bands as 0/1 matrices: products add in a fixed order, which scattered additions on a GPU do not
    rows = torch.nn.functional.one_hot(_bands(height, grid, maps.device), grid).double()
    columns = torch.nn.functional.one_hot(_bands(width, grid, maps.device), grid).double()
    sums = rows.T @ maps.double() @ columns
    return (sums / torch.outer(rows.sum(dim=0), columns.sum(dim=0))).flatten(1)


def deletion_step(
    order: Int[Tensor, "*batch cell"], cells: Int[Tensor, "height width"]
) -> Int[Tensor, "*batch height width"]:
    """At which step every pixel is deleted.

    Args:
        order: Cells in the order of their deletion, a permutation of 0..G-1.
        cells: Cell of every pixel, from `cell_index`.

    Returns:
        Steps from 1 to G: after s deletions exactly the pixels with a step of at most s are gone.

    Raises:
        ShapeError: The order has fewer cells than the image.
    """
    count = order.shape[-1]
    if int(cells.max()) >= count:
        raise ShapeError(expected=f"an order of {int(cells.max()) + 1} cells", actual=tuple(order.shape))
    # the inverse of a permutation: when each cell goes
    return order.argsort(dim=-1)[..., cells] + 1


def _bands(side: int, grid: int, device: torch.device | str) -> Tensor:
    return torch.arange(side, device=device) * grid // side


def _require_grid(height: int, width: int, grid: int) -> None:
    if not 1 <= grid <= min(height, width):
        raise ShapeError(expected=f"1 to {min(height, width)} cells a side", actual=grid)
