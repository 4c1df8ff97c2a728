"""Marks of a planted shortcut: a square in a corner whose color predicts the class."""

from __future__ import annotations

import colorsys
import enum
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, UInt8

from auditcore.contracts.synthetic import Shortcut
from auditcore.synthetic.draws import draws_of

_SIDES_A_MARK = 8
"""Sides of a mark in the side of an image."""


@final
class Corner(enum.Enum):
    """Where a mark is."""

    UPPER_LEFT = "upper_left"
    UPPER_RIGHT = "upper_right"
    LOWER_LEFT = "lower_left"
    LOWER_RIGHT = "lower_right"


@final
@dataclass(frozen=True)
class Mark:
    """The mark of one image.

    Attributes:
        predicts: Class whose color it has.
        corner: Where it is.
    """

    predicts: int
    corner: Corner


def mark_side(size_px: int) -> int:
    """Return the side of a mark, in px: an eighth of the image's side, rounded."""
    return round(size_px / _SIDES_A_MARK)


def mark_region(corner: Corner, size_px: int) -> Bool[np.ndarray, "height width"]:
    """Return the pixels of a mark.

    Args:
        corner: Where it is.
        size_px: Height and width of the image.
    """
    side = mark_side(size_px)
    left = corner in {Corner.UPPER_LEFT, Corner.LOWER_LEFT}
    upper = corner in {Corner.UPPER_LEFT, Corner.UPPER_RIGHT}
    region = np.zeros((size_px, size_px), dtype=bool)
    region[(slice(0, side) if upper else slice(-side, None)), (slice(0, side) if left else slice(-side, None))] = True
    return region


def mark_color(predicts: int, classes: int) -> UInt8[np.ndarray, " 3"]:
    """Return red, green and blue of the mark of a class: one of equally spaced hues, fully saturated.

    One of the three is 255 and one is 0, which no pixel of a scene, object or digit has together.

    Args:
        predicts: The class.
        classes: Number of classes.
    """
    return np.round(255 * np.array(colorsys.hsv_to_rgb(predicts / classes, 1, 1))).astype(np.uint8)


def mark_corner(seed: int, number: int) -> Corner:
    """Return the corner of an image's mark; each has the same probability, whatever the class.

    Args:
        seed: Seed of the dataset.
        number: Number of the image.
    """
    return list(Corner)[int(_draws(seed, number)[2] * len(Corner))]


def other_class(label: int, *, classes: int, seed: int, number: int) -> int:
    """Return the class of an image's contradicting mark: one of the others, each with the same probability.

    Args:
        label: The image's class.
        classes: Number of classes.
        seed: Seed of the dataset.
        number: Number of the image.
    """
    return (label + 1 + int(_draws(seed, number)[1] * (classes - 1))) % classes


def draw_mark(shortcut: Shortcut, *, label: int, classes: int, seed: int, number: int) -> Mark:
    """Return the mark of an image.

    At two rates of agreement, an image has the same corner, and its own color at the higher rate if it has it at the
    lower one.

    Args:
        shortcut: How often marks agree.
        label: The image's class.
        classes: Number of classes.
        seed: Seed of the dataset.
        number: Number of the image.
    """
    agrees = _draws(seed, number)[0] < shortcut.agreement
    predicts = label if agrees else other_class(label, classes=classes, seed=seed, number=number)
    return Mark(predicts, mark_corner(seed, number))


def _draws(seed: int, number: int) -> tuple[float, float, float]:
    """Whether the mark agrees, which other class it may have, and where it is: each from 0 to 1."""
    agrees, other, corner = draws_of(seed, "mark", number).random(3).tolist()
    return agrees, other, corner
