"""How many square cells an image is cut into where a plan gives no number."""

from __future__ import annotations

FINE_GRID, COARSE_GRID, FINE_FROM_PX = 14, 8, 128


def default_grid(height: int, width: int) -> int:
    """Cells per side: 14 where both sides have at least 128 pixels, else 8.

    Source: Won et al. 2025 (14 at 224 pixels, 8 at 32).
    """
    return FINE_GRID if min(height, width) >= FINE_FROM_PX else COARSE_GRID
