"""The color scale of signed maps, for pictures and their legend."""

from __future__ import annotations

from typing import Final

Color = tuple[int, int, int]

NEGATIVE: Final[Color] = (33, 102, 172)
ZERO: Final[Color] = (255, 255, 255)
POSITIVE: Final[Color] = (178, 24, 43)
"""Ends and middle of ColorBrewer's RdBu, which is safe for color-blind readers."""

LEVELS: Final = 10
"""Shades per sign. With zero and 12 grays of the photo they fit a palette of 256 colors. A picture then takes 23 KB on
average, instead of 90 KB in 24-bit color, so a page can contain a hundred."""

QUANTILE: Final = 0.995
"""Quantile of absolute values that gets the full color; the few values above it would make all others nearly white."""


def color_of(value: float) -> Color:
    """Return the color of a scaled value: blue below 0, white at 0, red above, linear in sRGB between.

    Args:
        value: Attribution divided by the map's own quantile, in [-1, 1].
    """
    end = POSITIVE if value > 0 else NEGATIVE
    red, green, blue = (round(zero + (full - zero) * abs(value)) for zero, full in zip(ZERO, end, strict=True))
    return red, green, blue
