"""Textures: the arrangements of two colors by which scenes differ, and the shades inside of objects.

A scene has each of its two colors in half of its pixels. Without the arrangement, scenes of all classes are therefore
the same: mean color, contrast and histogram tell nothing of the class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from auditcore.contracts.synthetic import SCENE_CLASSES

Plane = NDArray[np.float64]

_TURN = 2 * math.pi
_WAVES = 12
"""Plane waves whose sum is noise of a band of frequencies."""


def scene_pattern(scene_class: int, size_px: int, draws: np.random.Generator) -> Bool[np.ndarray, "height width"]:
    """Return where a scene has the first of its two colors: half of the pixels.

    Args:
        scene_class: Position in `SCENE_CLASSES`.
        size_px: Height and width.
        draws: Random numbers of the scene; frequency, angle and phase vary by it.
    """
    field = _FIELDS[SCENE_CLASSES[scene_class]](*_positions(size_px), draws).ravel()
    first = np.zeros(field.size, dtype=bool)
    # by rank and not by the median: of values that occur several times too, exactly half of the pixels
    first[np.argsort(field, kind="stable")[: field.size // 2]] = True
    return first.reshape(size_px, size_px)


def object_shade(size_px: int, draws: np.random.Generator) -> Float[np.ndarray, "height width"]:
    """Return shades, from -1 to 1, for the inside of an object: a ramp and coarse noise, the same for all classes.

    Args:
        size_px: Height and width of the whole image.
        draws: Random numbers of the object.
    """
    x, y = _positions(size_px)
    angle = _TURN * draws.random()
    ramp = (x - 0.5) * math.cos(angle) + (y - 0.5) * math.sin(angle)
    noise = _noise(x, y, draws, least=3, most=7)
    return np.clip(ramp + 0.6 * noise, -1, 1)


def _positions(size_px: int) -> tuple[Plane, Plane]:
    """Horizontal and vertical position of the center of each pixel, from 0 to 1."""
    centers = (np.arange(size_px) + 0.5) / size_px
    x, y = np.meshgrid(centers, centers)
    return x, y


def _about(value: float, draws: np.random.Generator) -> float:
    """A value up to 15 % below or above another."""
    return value * (0.85 + 0.3 * draws.random())


def _stripes(degrees: float) -> Callable[[Plane, Plane, np.random.Generator], Plane]:
    def field(x: Plane, y: Plane, draws: np.random.Generator) -> Plane:
        angle = math.radians(degrees + 12 * (draws.random() - 0.5))
        wave = _about(5, draws) * (x * math.sin(angle) + y * math.cos(angle)) + draws.random()
        return np.sin(_TURN * wave)

    return field


def _checks(degrees: float) -> Callable[[Plane, Plane, np.random.Generator], Plane]:
    def field(x: Plane, y: Plane, draws: np.random.Generator) -> Plane:
        u, v = _turned(x, y, degrees + 10 * (draws.random() - 0.5))
        frequency = _about(3.2, draws)
        return np.sin(_TURN * (frequency * u + draws.random())) * np.sin(_TURN * (frequency * v + draws.random()))

    return field


def _dots(x: Plane, y: Plane, draws: np.random.Generator) -> Plane:
    # distance to the nearest point of a square lattice
    u, v = _turned(x, y, 90 * draws.random())
    frequency = _about(4.5, draws)
    across = np.mod(frequency * u + draws.random(), 1) - 0.5
    down = np.mod(frequency * v + draws.random(), 1) - 0.5
    return np.hypot(across, down)


def _rings(x: Plane, y: Plane, draws: np.random.Generator) -> Plane:
    return np.sin(_TURN * (_about(5, draws) * np.hypot(*_from_center(x, y, draws)) + draws.random()))


def _rays(x: Plane, y: Plane, draws: np.random.Generator) -> Plane:
    across, down = _from_center(x, y, draws)
    return np.sin(10 * np.arctan2(down, across) + _TURN * draws.random())


def _zigzag(x: Plane, y: Plane, draws: np.random.Generator) -> Plane:
    ramp = abs(np.mod(_about(2.5, draws) * x + draws.random(), 1) - 0.5)
    return np.sin(_TURN * (_about(3.8, draws) * (y + 0.35 * ramp) + draws.random()))


def _band(least: float, most: float) -> Callable[[Plane, Plane, np.random.Generator], Plane]:
    def field(x: Plane, y: Plane, draws: np.random.Generator) -> Plane:
        return _noise(x, y, draws, least=least, most=most)

    return field


def _noise(x: Plane, y: Plane, draws: np.random.Generator, *, least: float, most: float) -> Plane:
    """Sum of waves in random directions, of frequencies within a band, in cycles per side; mostly within -1 and 1."""
    angle = _TURN * draws.random(_WAVES)[:, None, None]
    frequency = least + (most - least) * draws.random(_WAVES)[:, None, None]
    phase = draws.random(_WAVES)[:, None, None]
    waves = np.sin(_TURN * (frequency * (x * np.cos(angle) + y * np.sin(angle)) + phase))
    total: Plane = waves.sum(axis=0) / math.sqrt(2 * _WAVES)
    return total


def _turned(x: Plane, y: Plane, degrees: float) -> tuple[Plane, Plane]:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return x * cosine + y * sine, y * cosine - x * sine


def _from_center(x: Plane, y: Plane, draws: np.random.Generator) -> tuple[Plane, Plane]:
    """Positions relative to a point near the middle of the image."""
    return x - 0.3 - 0.4 * draws.random(), y - 0.3 - 0.4 * draws.random()


_FIELDS: Mapping[str, Callable[[Plane, Plane, np.random.Generator], Plane]] = {
    "horizontal_stripes": _stripes(0),
    "vertical_stripes": _stripes(90),
    "blotches": _band(1.5, 3),
    "checks": _checks(0),
    "rings": _rings,
    "rising_stripes": _stripes(45),
    "dots": _dots,
    "speckles": _band(6, 9),
    "rays": _rays,
    "falling_stripes": _stripes(-45),
    "zigzag": _zigzag,
    "diamonds": _checks(45),
}
