"""How many cells an image is cut into."""

from __future__ import annotations

import math
from typing import NamedTuple

FINE_GRID, COARSE_GRID, FINE_FROM_PX = 14, 8, 128


class Grid(NamedTuple):
    """Cells of an image, in rows and columns."""

    rows: int
    columns: int

    @property
    def cells(self) -> int:
        """All cells of the image."""
        return self.rows * self.columns


def grid_of(cells: int | None, height: int, width: int) -> Grid:
    """The grid of an image: so many cells along its shorter side, and as many along the other as keep cells square.

    A square image has as many rows as columns. Along the longer side of others, the number is rounded to the nearest
    whole one.

    Args:
        cells: Cells along the shorter side; 14 where it has at least 128 pixels, else 8, if None.
        height: Height in pixels.
        width: Width in pixels.

    Source: Won et al. 2025 (14 at 224 pixels, 8 at 32), for square images.
    """
    shorter = min(height, width)
    along = cells or (FINE_GRID if shorter >= FINE_FROM_PX else COARSE_GRID)
    return Grid(_along(height, along, shorter), _along(width, along, shorter))


def cells_within(count: int, height: int, width: int) -> Grid:
    """The finest grid of nearly square cells with at most `count` cells; a cell has at least one pixel.

    Args:
        count: Most cells in the whole image, at least 1.
        height: Height in pixels.
        width: Width in pixels.
    """
    along = min(math.isqrt(count), height, width)
    # an image much longer than wide has more cells than `count` even with one along its shorter side
    while along > 1 and grid_of(along, height, width).cells > count:
        along -= 1
    found = grid_of(along, height, width)
    return Grid(min(found.rows, count), min(found.columns, count))


def _along(side: int, cells: int, shorter: int) -> int:
    # halves are rounded up: round() would round some of them down
    return (2 * cells * side + shorter) // (2 * shorter)
