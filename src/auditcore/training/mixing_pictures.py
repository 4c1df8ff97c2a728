"""Pictures of structure without objects, made from a seed: fractals and dead leaves."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from auditcore.training.draws import generator

_POINTS: Final = 4096
"""Points of a fractal that move at the same time."""

_MOVES: Final = 40
"""How often they move; the first ones, before points are near the fractal, are not drawn."""

_UNDRAWN: Final = 10

_MAPS: Final = (2, 6)
"""Fewest and most maps of a system."""

_LEAST_RADIUS: Final = 0.02
"""Of a disc, as a share of the side; the largest is half a side. Smaller ones are hidden detail."""

_DISCS: Final = 300
"""Discs of a picture: enough to cover every pixel."""


def mixing_pictures(
    count: int, *, side_px: int, channels: int, seed: int
) -> UInt8[Tensor, "picture channel side side"]:
    """Pictures in 8 bits, fractals and dead leaves in turn.

    Args:
        count: Number of pictures.
        side_px: Height and width.
        channels: Number of channels; colors are random in all of them.
        seed: The same seed gives the same pictures; a smaller number of pictures is the beginning of a larger one.
    """
    pictures = []
    for index in range(count):
        random = generator(seed, "mixing_pictures", index)
        make = (fractal, dead_leaves)[index % 2]
        pictures.append(np.round(make(random, side_px, channels) * 255).astype(np.uint8))
    return torch.from_numpy(np.stack(pictures))


def fractal(random: np.random.Generator, side_px: int, channels: int) -> NDArray[np.float64]:
    """The attractor of a random iterated function system, brighter where its points are denser.

    Points jump by maps drawn at random (the chaos game). Each map has a color, and a point's color is the mean of those
    of its last maps, the last one counting half.

    Args:
        random: The generator of the picture.
        side_px: Height and width.
        channels: Number of channels.

    Returns:
        (C,H,W) in [0,1], black where no point falls.

    Source: Barnsley 1988; contracting maps are drawn by their singular values, as in Anderson and Farrell 2022.
    """
    maps = int(random.integers(_MAPS[0], _MAPS[1] + 1))
    left, right = random.uniform(0, 2 * math.pi, size=(2, maps))
    scales = random.uniform(0.3, 0.85, size=(maps, 2))
    matrices = _rotations(left) @ (scales[:, :, None] * _rotations(right))
    offsets = random.uniform(-1, 1, size=(maps, 2))
    colors = random.random((maps, channels))
    # maps that shrink less cover more of the fractal
    weights = scales.prod(axis=1)
    chosen = random.choice(maps, p=weights / weights.sum(), size=(_MOVES, _POINTS))
    points, shades = np.zeros((_POINTS, 2)), np.full((_POINTS, channels), 0.5)
    drawn, drawn_shades = [], []
    for move, which in enumerate(chosen):
        points = np.einsum("pij,pj->pi", matrices[which], points) + offsets[which]
        shades = (shades + colors[which]) / 2
        if move >= _UNDRAWN:
            drawn.append(points)
            drawn_shades.append(shades)
    return _density(np.concatenate(drawn), np.concatenate(drawn_shades), side_px)


def dead_leaves(random: np.random.Generator, side_px: int, channels: int) -> NDArray[np.float64]:
    """Discs of random colors that cover each other; the density of their radii falls with the third power.

    Args:
        random: The generator of the picture.
        side_px: Height and width.
        channels: Number of channels.

    Returns:
        (C,H,W) in [0,1].

    Source: Lee et al. 2001; as training images, Baradad et al. 2021.
    """
    # inverse of the distribution function of a density r**-3 between both radii
    least, most = _LEAST_RADIUS**-2, 0.5**-2
    radii = side_px * (least - random.random(_DISCS) * (least - most)) ** -0.5
    rows, columns = random.uniform(0, side_px, size=(2, _DISCS))
    colors = random.random((_DISCS, channels))
    picture = np.broadcast_to(random.random((channels, 1, 1)), (channels, side_px, side_px)).copy()
    position = np.arange(side_px) + 0.5
    for radius, row, column, color in zip(radii, rows, columns, colors, strict=True):
        covered = (position[:, None] - row) ** 2 + (position - column) ** 2 <= radius**2
        picture[:, covered] = color[:, None]
    return picture


def _rotations(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack((np.stack((cos, -sin), axis=-1), np.stack((sin, cos), axis=-1)), axis=-2)


def _density(points: NDArray[np.float64], shades: NDArray[np.float64], side_px: int) -> NDArray[np.float64]:
    """Points drawn into a picture that holds all but a hundredth of them at either side."""
    low, high = np.quantile(points, (0.01, 0.99), axis=0)
    cells = np.floor((points - low) / np.maximum(high - low, 1e-9) * side_px).astype(np.int64)
    inside = ((cells >= 0) & (cells < side_px)).all(axis=1)
    flat = cells[inside, 1] * side_px + cells[inside, 0]
    counts = np.bincount(flat, minlength=side_px**2)
    sums = [np.bincount(flat, weights=shade, minlength=side_px**2) for shade in shades[inside].T]
    brightness = np.log1p(counts) / math.log1p(max(int(counts.max()), 1))
    picture = np.stack(sums) / np.maximum(counts, 1) * brightness
    return picture.reshape(-1, side_px, side_px).clip(0, 1)


def window(
    pictures: UInt8[Tensor, "picture channel side side"],
    chosen: NDArray[np.int64],
    corners: NDArray[np.float64],
    frame: tuple[int, int],
) -> Float[Tensor, "image channel height width"]:
    """A part of a picture for each image, in [0,1].

    Args:
        pictures: All pictures.
        chosen: Which picture, for each image.
        corners: (N,2): where the window begins, as shares in [0,1) of what is left beside it; row and column.
        frame: Height and width of a window.
    """
    starts = np.floor(corners * (np.array(pictures.shape[2:]) - frame + 1)).astype(np.int64).tolist()
    cut = [
        pictures[int(which), :, top : top + frame[0], left : left + frame[1]]
        for which, (top, left) in zip(chosen, starts, strict=True)
    ]
    return torch.stack(cut).float() / 255
