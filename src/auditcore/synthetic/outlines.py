"""Outlines of objects, by which their classes differ. Each lies within the unit circle, so that it may be turned."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from auditcore.contracts.synthetic import OBJECT_CLASSES

Plane = NDArray[np.float64]
Region = NDArray[np.bool_]

_HALF_SQUARE = math.sqrt(0.5)
"""Half the side of the square in the unit circle."""


def outline_region(
    object_class: int, across: Float[np.ndarray, "height width"], down: Float[np.ndarray, "height width"]
) -> Bool[np.ndarray, "height width"]:
    """Return which points lie inside of the outline of a class.

    Args:
        object_class: Position in `OBJECT_CLASSES`.
        across: Position of each point to the right of the object's center, relative to its radius.
        down: The same below its center.
    """
    return _OUTLINES[OBJECT_CLASSES[object_class]](across, down)


def _disc(x: Plane, y: Plane) -> Region:
    return x**2 + y**2 <= 1


def _triangle(x: Plane, y: Plane) -> Region:
    # equilateral, a corner up: three half-planes at half the radius
    tilt, half = math.sqrt(0.75), 0.5
    return (y <= half) & (tilt * x - half * y <= half) & (-tilt * x - half * y <= half)


def _cross(x: Plane, y: Plane) -> Region:
    return (np.minimum(abs(x), abs(y)) <= 0.3) & (np.maximum(abs(x), abs(y)) <= 0.95)  # noqa: PLR2004 - arms


def _ring(x: Plane, y: Plane) -> Region:
    radius = np.hypot(x, y)
    return (radius <= 1) & (radius >= 0.55)  # noqa: PLR2004 - the hole


def _star(x: Plane, y: Plane) -> Region:
    # five points up, the inner corners at 0.4 of the radius
    half = math.pi / 5
    angle = np.mod(np.arctan2(x, -y), 2 * half)
    angle = np.minimum(angle, 2 * half - angle)
    radius = np.hypot(x, y)
    along, beside = radius * np.cos(angle), radius * np.sin(angle)
    corner_along, corner_beside = 0.4 * math.cos(half), 0.4 * math.sin(half)
    return along * corner_beside + beside * (1 - corner_along) <= corner_beside


def _square(x: Plane, y: Plane) -> Region:
    return np.maximum(abs(x), abs(y)) <= _HALF_SQUARE


def _crescent(x: Plane, y: Plane) -> Region:
    return (x**2 + y**2 <= 1) & ((x - 0.5) ** 2 + y**2 >= 0.75**2)


def _hourglass(x: Plane, y: Plane) -> Region:
    return (abs(x) <= abs(y) + 0.06) & (abs(y) <= 0.75) & (abs(x) <= 0.66)  # noqa: PLR2004 - two triangles and a waist


def _arrow(x: Plane, y: Plane) -> Region:
    # to the right: a head of half the length, and a shaft
    head = (x >= 0) & (x + abs(y) <= 1)
    shaft = (x >= -0.95) & (x <= 0) & (abs(y) <= 0.28)  # noqa: PLR2004 - length and width
    return head | shaft


def _heart(x: Plane, y: Plane) -> Region:
    u, v = 1.3 * x, 0.2 - 1.3 * y
    return (u**2 + v**2 - 1) ** 3 <= u**2 * v**3


def _frame(x: Plane, y: Plane) -> Region:
    side = np.maximum(abs(x), abs(y))
    return (side <= _HALF_SQUARE) & (side >= 0.4)  # noqa: PLR2004 - the hole


def _corner(x: Plane, y: Plane) -> Region:
    # an L: a square without its upper right part
    return (np.maximum(abs(x), abs(y)) <= _HALF_SQUARE) & ((x <= -0.15) | (y >= 0.15))  # noqa: PLR2004 - arms


_OUTLINES: Mapping[str, Callable[[Plane, Plane], Region]] = {
    "disc": _disc,
    "triangle": _triangle,
    "cross": _cross,
    "ring": _ring,
    "star": _star,
    "square": _square,
    "crescent": _crescent,
    "hourglass": _hourglass,
    "arrow": _arrow,
    "heart": _heart,
    "frame": _frame,
    "corner": _corner,
}
