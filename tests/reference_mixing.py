"""Training methods the slow way: float64, one image and one pixel at a time, from the papers and the authors' code."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def cross_entropy(logits: Array, targets: Array, *, multi_label: bool = False) -> float:
    """Mean over images."""
    losses = []
    for row, wanted in zip(logits, targets, strict=True):
        if multi_label:
            parts = [
                -(share * math.log(1 / (1 + math.exp(-value))) + (1 - share) * math.log(1 / (1 + math.exp(value))))
                for value, share in zip(row, wanted, strict=True)
            ]
            losses.append(sum(parts) / len(parts))
        else:
            total = sum(math.exp(value) for value in row)
            losses.append(-sum(share * math.log(math.exp(v) / total) for v, share in zip(row, wanted, strict=True)))
    return sum(losses) / len(losses)


def box(center: tuple[int, int], sides: tuple[int, int], frame: tuple[int, int]) -> set[tuple[int, int]]:
    """Pixels of a box: from center - side // 2 to before center + side // 2, inside the image."""
    return {
        (row, column)
        for row in range(center[0] - sides[0] // 2, center[0] + sides[0] // 2)
        for column in range(center[1] - sides[1] // 2, center[1] + sides[1] // 2)
        if 0 <= row < frame[0] and 0 <= column < frame[1]
    }


def pasted(image: Array, other: Array, pixels: set[tuple[int, int]]) -> Array:
    mixed = image.copy()
    for row, column in pixels:
        mixed[:, row, column] = other[:, row, column]
    return mixed


def shared(own: Array, other: Array, share: float) -> Array:
    return np.array([(1 - share) * mine + share * theirs for mine, theirs in zip(own, other, strict=True)])


def box_sides(share: float, frame: tuple[int, int]) -> tuple[int, int]:
    """As `rand_bbox` of the authors of CutMix."""
    return int(frame[0] * math.sqrt(share)), int(frame[1] * math.sqrt(share))


def fine_grained_saliency(image: NDArray[np.uint8]) -> Array:
    """Montabone and Soto 2010 as in OpenCV: intensity, on and off centers, six surroundings; (H,W,3) in RGB.

    In float64, but for the mean of the surroundings and the stretching, which OpenCV computes in float32.
    """
    height, width = image.shape[:2]
    gray = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            red, green, blue = (float(value) for value in image[row, column])
            gray[row, column] = math.floor((9798 * red + 19235 * green + 3735 * blue) / 32768 + 0.5)
    for _ in range(2):
        mirrored = np.pad(gray, 1, mode="reflect")
        smooth = np.zeros_like(gray)
        for row in range(height):
            for column in range(width):
                window = mirrored[row : row + 3, column : column + 3]
                weights = np.outer([1, 2, 1], [1, 2, 1])
                smooth[row, column] = math.floor((window * weights).sum() / 16 + 0.5)
        gray = smooth
    on, off = np.zeros_like(gray), np.zeros_like(gray)
    for half in (12, 24, 48, 28, 56, 112):
        for row in range(height):
            for column in range(width):
                around = gray[
                    max(row - half + 1, 0) : min(row + half + 1, height),
                    max(column - half + 1, 0) : min(column + half + 1, width),
                ]
                mean = np.float32(around.sum() - gray[row, column]) / np.float32(around.size - 1)
                difference = np.float32(gray[row, column]) - mean
                on[row, column] += math.floor(max(difference, 0))
                off[row, column] += math.floor(max(-difference, 0))
    submaps = []
    for part in (on, off):
        highest = max(part.max(), 1)
        submaps.append(
            np.array(
                [[math.floor(255 * float(np.float32(value) / np.float32(highest))) for value in row] for row in part]
            )
        )
    highest = max(submaps[0].max(), submaps[1].max(), 1)
    return np.floor(255 * (submaps[0] + submaps[1]) / highest)


def roi_mean(maps: Array, corners: Sequence[float]) -> Array:
    """RoI align (He et al. 2017) to one value per channel: the mean of bilinear samples.

    Args:
        maps: (C,h,w); the center of the first cell lies at 0.5.
        corners: left, top, right, bottom in cells.
    """
    left, top, right, bottom = corners
    rows, columns = max(math.ceil(bottom - top), 1), max(math.ceil(right - left), 1)
    height, width = maps.shape[1:]
    total = np.zeros(len(maps))
    for i in range(rows):
        for j in range(columns):
            y = min(max(top + (i + 0.5) * (bottom - top) / rows - 0.5, 0), height - 1)
            x = min(max(left + (j + 0.5) * (right - left) / columns - 0.5, 0), width - 1)
            y0, x0 = math.floor(y), math.floor(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            above = (1 - x + x0) * maps[:, y0, x0] + (x - x0) * maps[:, y0, x1]
            below = (1 - x + x0) * maps[:, y1, x0] + (x - x0) * maps[:, y1, x1]
            total += (1 - y + y0) * above + (y - y0) * below
    return total / (rows * columns)


def softmax(row: Array) -> Array:
    powers = [math.exp(value - max(row)) for value in row]
    return np.array([power / sum(powers) for power in powers])


def divergence(expected: Array, found: Array) -> float:
    """Kullback-Leibler divergence from `expected` to `found`."""
    return sum(p * math.log(p / q) for p, q in zip(expected, found, strict=True) if p > 0)


def jensen_shannon(distributions: Sequence[Array]) -> float:
    """Hendrycks et al. 2020, equation 2."""
    mean = sum(distributions) / len(distributions)
    return sum(divergence(one, mean) for one in distributions) / len(distributions)


def horizontal_mixing(
    saliency: Array, easy: Sequence[bool], rho: float
) -> tuple[dict[int, int], dict[int, list[bool]], dict[int, float]]:
    """Choi et al. 2022, equations 3 to 7, by trying every assignment.

    Returns:
        For each easy image: its partner, which patches it takes, and the share of its partner's label.
    """
    rows = [row for row, mixed in enumerate(easy) if mixed]

    def gain(row: int, partner: int) -> float:
        return sum(max(b - a - rho, 0) for a, b in zip(saliency[row], saliency[partner], strict=True))

    best = max(
        itertools.permutations(range(len(saliency)), len(rows)),
        key=lambda partners: sum(gain(row, partner) for row, partner in zip(rows, partners, strict=True)),
    )
    partners = dict(zip(rows, best, strict=True))
    taken = {
        row: [b - a - rho > 0 for a, b in zip(saliency[row], saliency[partner], strict=True)]
        for row, partner in partners.items()
    }
    shares = {}
    for row, partner in partners.items():
        kept = sum(a for a, gone in zip(saliency[row], taken[row], strict=True) if not gone)
        came = sum(b for b, here in zip(saliency[partner], taken[row], strict=True) if here)
        shares[row] = came / (kept + came) if kept + came > 0 else 0.0
    return partners, taken, shares
