"""The colors of a signed map, for the pictures and for the legend that explains them."""

from __future__ import annotations

from typing import Final

Color = tuple[int, int, int]

NEGATIVE: Final[Color] = (33, 102, 172)
ZERO: Final[Color] = (255, 255, 255)
POSITIVE: Final[Color] = (178, 24, 43)
"""Ends and middle of ColorBrewer's RdBu, which readers with any color vision can tell apart."""

LEVELS: Final = 10
"""Shades of each sign. With zero and 12 grays of the photo they fit the 256 colors of a palette: a picture then takes
23 KB on average, where 24-bit color takes 90 KB, so that a page can hold a hundred."""

QUANTILE: Final = 0.995
"""Absolute value of a map that gets the full color; the few above it would leave all others white."""


def color_of(value: float) -> Color:
    """Color of a scaled value: blue below 0, white at 0, red above, linear in sRGB between.

    Args:
        value: Attribution divided by the map's own quantile, in [-1, 1].
    """
    end = POSITIVE if value > 0 else NEGATIVE
    red, green, blue = (round(zero + (full - zero) * abs(value)) for zero, full in zip(ZERO, end, strict=True))
    return red, green, blue
