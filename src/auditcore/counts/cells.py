"""How many square cells an image is cut into."""

from __future__ import annotations

import math

FINE_GRID, COARSE_GRID, FINE_FROM_PX = 14, 8, 128


def default_grid(height: int, width: int) -> int:
    """Cells per side: 14 where both sides have at least 128 pixels, else 8.

    Source: Won et al. 2025 (14 at 224 pixels, 8 at 32).
    """
    return FINE_GRID if min(height, width) >= FINE_FROM_PX else COARSE_GRID


def cells_within(count: int, height: int, width: int) -> int:
    """Cells per side of the largest square grid with at most `count` cells; a cell has at least one pixel.

    Args:
        count: Most cells in the whole image.
        height: Height in pixels.
        width: Width in pixels.
    """
    return min(math.isqrt(count), height, width)
