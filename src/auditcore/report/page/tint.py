"""Colors of the cells of a column, from its worst value to its best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

Rgb = tuple[int, int, int]

SCALE: Final[Sequence[Rgb]] = (
    (0, 34, 78), (18, 53, 112), (59, 73, 108), (87, 93, 109), (112, 113, 115),
    (138, 134, 120), (165, 156, 116), (195, 179, 105), (225, 204, 85), (254, 232, 56),
)  # fmt: skip
"""Cividis in ten steps, from dark blue to yellow. Its lightness rises evenly, and readers with any kind of color
blindness see nearly the same colors (Nuñez, Anderton and Renslow 2018)."""

DARK: Final[Rgb] = (0, 0, 0)
LIGHT: Final[Rgb] = (255, 255, 255)

Name = TypeVar("Name")


@dataclass(frozen=True)
class Tint:
    """Colors of a cell.

    Attributes:
        paper: Background, as `#rrggbb`.
        ink: Text that has a contrast of at least 4.5 with it.
    """

    paper: str
    ink: str


def tints(values: Mapping[Name, float | None], *, higher_is_better: bool | None) -> dict[Name, Tint]:
    """Colors of a column: yellow for the best value, dark blue for the worst, linear between.

    Args:
        values: Name of a cell -> its value; None without one.
        higher_is_better: Direction; None where neither is better.

    Returns:
        Name -> colors of every cell with a value. Empty where nothing is better or all values are equal.
    """
    known = {name: value for name, value in values.items() if value is not None}
    if higher_is_better is None or not known or min(known.values()) == max(known.values()):
        return {}
    low, high = min(known.values()), max(known.values())
    return {
        name: tint((value - low) / (high - low) if higher_is_better else (high - value) / (high - low))
        for name, value in known.items()
    }


def tint(share: float) -> Tint:
    """Colors of a value.

    Args:
        share: From the worst value, 0, to the best, 1.
    """
    place = share * (len(SCALE) - 1)
    below = min(int(place), len(SCALE) - 2)
    paper = tuple(
        round(low + (high - low) * (place - below)) for low, high in zip(SCALE[below], SCALE[below + 1], strict=True)
    )
    red, green, blue = paper
    chosen = max((LIGHT, DARK), key=lambda ink: contrast(ink, (red, green, blue)))
    return Tint(_hex((red, green, blue)), _hex(chosen))


def contrast(one: Rgb, other: Rgb) -> float:
    """Contrast of two colors, in [1, 21].

    Source: WCAG 2.2, "contrast ratio" and "relative luminance".
    """
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: Rgb) -> float:
    red, green, blue = (
        part / 255 / 12.92 if part / 255 <= 0.04045 else ((part / 255 + 0.055) / 1.055) ** 2.4  # noqa: PLR2004 - sRGB
        for part in color
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _hex(color: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
