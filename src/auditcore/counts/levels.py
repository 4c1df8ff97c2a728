"""Which values of an augmentation are tried: arithmetic of numbers, needed before any tensor exists."""

from __future__ import annotations

AUTO_INTERVAL_STEPS = 10
"""Half-widths that an automatic interval tries: tenths of the augmentation's bound."""

SAME_LEVEL = 1e-12
"""Two values of a grid that are closer than this are one: rounding misses a value such as 0 by about 1e-17."""


def same_level(value: float, other: float) -> bool:
    """Whether two values of a grid are one, apart from rounding."""
    return abs(value - other) <= SAME_LEVEL


def level_grid(
    interval: tuple[float, float], identity: float, count: int, *, only_ends: bool = False
) -> tuple[float, ...]:
    """Grid of values over an interval.

    Args:
        interval: Lowest and highest value, around the identity.
        identity: The value that changes nothing, which must be on the grid.
        count: Number of equidistant values, at least 2, ends included.
        only_ends: Whether nothing exists between the identity and the ends of the interval.

    Returns:
        Ascending values: the `count` equidistant ones, or only the ends, and the identity where they miss it.

    Source: Tetkova & Hansen 2023, which uses 11 values.
    """
    low, high = float(interval[0]), float(interval[1])
    # as numpy.linspace computes them, so that the last digit is the same
    step = (high - low) / (count - 1)
    grid = (low, high) if only_ends else (*(number * step + low for number in range(count - 1)), high)
    others = [value for value in grid if not same_level(value, identity)]
    return tuple(sorted([*others, identity]))
