"""Cells of a deletion curve: the relevance of each cell, and the step at which it is deleted."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from auditcore.counts.cells import Grid
from auditcore.errors import ShapeError
from auditcore.images.cells import bands, require_grid


def cell_relevance(maps: Float[Tensor, "image height width"], grid: Grid) -> Float[Tensor, "image cell"]:
    """Compute the mean relevance of the pixels of each cell.

    Args:
        maps: Reduced maps, one value per pixel.
        grid: Rows R and columns C of cells.

    Returns:
        (N, R*C) in float64: rounding to float32 would create ties, and ties are broken at random.

    Raises:
        ShapeError: There are more rows or columns of cells than pixels.

    Source: Won et al. 2025.
    """
    height, width = maps.shape[-2:]
    require_grid(height, width, grid)
    # bands as 0/1 matrices: matrix products add in a fixed order, scattered additions on a GPU do not
    rows = torch.nn.functional.one_hot(bands(height, grid.rows, maps.device), grid.rows).double()
    columns = torch.nn.functional.one_hot(bands(width, grid.columns, maps.device), grid.columns).double()
    sums = rows.T @ maps.double() @ columns
    return (sums / torch.outer(rows.sum(dim=0), columns.sum(dim=0))).flatten(1)


def deletion_step(
    order: Int[Tensor, "*batch cell"], cells: Int[Tensor, "height width"]
) -> Int[Tensor, "*batch height width"]:
    """Return the step at which each pixel is deleted.

    Args:
        order: Cells in deletion order, a permutation of 0..G-1.
        cells: Cell of each pixel, from `cell_index`.

    Returns:
        Steps from 1 to G: after s deletions, exactly the pixels with a step of at most s are deleted.

    Raises:
        ShapeError: The order has fewer cells than the image.
    """
    count = order.shape[-1]
    if int(cells.max()) >= count:
        raise ShapeError(expected=f"an order of {int(cells.max()) + 1} cells", actual=tuple(order.shape))
    # the inverse of the permutation: the step of each cell
    return order.argsort(dim=-1)[..., cells] + 1
