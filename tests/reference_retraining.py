"""Slow replicas in float64 of the measures that retrain, one loop per index of the papers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import spearmanr

Predict = Callable[[np.ndarray], np.ndarray]
"""An image (C,H,W) in pixel space -> logits."""


def most_relevant(relevance: np.ndarray, ties: np.ndarray, share_percent: float) -> set[tuple[int, int]]:
    """Hooker et al. 2019: the floor(t % of H W) most relevant pixels; equal ones by a lottery."""
    height, width = relevance.shape
    places = [(row, column) for row in range(height) for column in range(width)]
    places.sort(key=lambda place: (-relevance[place], -ties[place]))
    return set(places[: math.floor(share_percent * height * width / 100)])


def with_color(image: np.ndarray, pixels: set[tuple[int, int]], color: Sequence[float]) -> np.ndarray:
    """All channels of some pixels replaced."""
    changed = image.copy()
    for row, column in pixels:
        for channel in range(len(image)):
            changed[channel, row, column] = color[channel]
    return changed


def area(shares: Sequence[float], scores: Sequence[float]) -> float:
    """Trapezoids, divided by the range."""
    total = 0.0
    for step in range(1, len(shares)):
        total += (shares[step] - shares[step - 1]) * (scores[step] + scores[step - 1]) / 2
    return total / (shares[-1] - shares[0])


def probability(logits: np.ndarray, target: int) -> float:
    exponents = np.exp(logits - logits.max())
    return float(exponents[target] / exponents.sum())


def f_fidelity(
    predict: Predict,
    image: np.ndarray,
    order: Sequence[int],
    target: int,
    *,
    size_percent: float,
    alpha: float,
    beta: float,
    lotteries: Sequence[np.ndarray],
    color: Sequence[float],
    plus: bool,
) -> tuple[float, float]:
    """Zheng et al. 2025: FFid+ or FFid- of one image and one size, by accuracy and by probability.

    Args:
        order: Pixels, the most relevant first.
        lotteries: Random number of each pixel in each sample.
    """
    _, height, width = image.shape
    top = math.floor(size_percent * height * width / 100)
    candidates = list(order[:top]) if plus else list(order[top:])
    count = math.floor(min(alpha * len(candidates), beta * height * width) + 1e-9)
    whole = predict(image)
    right, sure = 0.0, 0.0
    for lottery in lotteries:
        gone = sorted(candidates, key=lambda pixel: -lottery[pixel])[:count]
        said = predict(with_color(image, {divmod(pixel, width) for pixel in gone}, color))
        right += float(said.argmax() == target) / len(lotteries)
        sure += probability(said, target) / len(lotteries)
    return float(whole.argmax() == target) - right, probability(whole, target) - sure


def idsds(
    predict: Predict, image: np.ndarray, relevance: np.ndarray, target: int, *, grid: int, color: Sequence[float]
) -> float:
    """Hesse et al. 2024: rank correlation of patch sums with drops of the target's logit, by scipy.

    Args:
        relevance: Of each channel and pixel.
        grid: Patches along each side, which it divides.
    """
    _, height, width = image.shape
    sums, drops = [], []
    for row in range(grid):
        for column in range(grid):
            rows = range(row * height // grid, (row + 1) * height // grid)
            columns = range(column * width // grid, (column + 1) * width // grid)
            pixels = {(i, j) for i in rows for j in columns}
            sums.append(sum(float(relevance[c, i, j]) for c in range(len(relevance)) for i, j in pixels))
            drops.append(float(predict(image)[target] - predict(with_color(image, pixels, color))[target]))
    return float(spearmanr(sums, drops).statistic)
