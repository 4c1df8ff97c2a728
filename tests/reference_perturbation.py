"""Explainers that change the image or a layer, once more: one image at a time, in float64, straight from the papers.

A model is a function from an image to the target's score. Random numbers come in from outside.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

Score = Callable[[np.ndarray], float]

# --- occlusion -------------------------------------------------------------------------------------


def occlusion(image: np.ndarray, baseline: np.ndarray, score: Score, window: int, stride: int) -> np.ndarray:
    """Mean of f(x) - f(x with a window covered) over the windows that cover a pixel."""
    side = image.shape[1]
    starts = [0]
    while starts[-1] + window < side:
        starts.append(starts[-1] + stride)
    lost: list[list[list[float]]] = [[[] for _ in range(side)] for _ in range(side)]
    for top in starts:
        for left in starts:
            changed = image.copy()
            changed[:, top : top + window, left : left + window] = baseline[:, top : top + window, left : left + window]
            loss = score(image) - score(changed)
            for row in range(top, min(top + window, side)):
                for column in range(left, min(left + window, side)):
                    lost[row][column].append(loss)
    return np.array([[math.fsum(values) / len(values) for values in row] for row in lost])


# --- ablation --------------------------------------------------------------------------------------


def ablation(image: np.ndarray, baseline: np.ndarray, score: Score, grid: int) -> np.ndarray:
    """f(x) - f(x with the pixel's cell replaced); cell of row i: floor(i g / H)."""
    side = image.shape[1]
    maps = np.zeros((side, side))
    for cell_row in range(grid):
        for cell_column in range(grid):
            inside = [
                (row, column)
                for row in range(side)
                for column in range(side)
                if (row * grid // side, column * grid // side) == (cell_row, cell_column)
            ]
            changed = image.copy()
            for row, column in inside:
                changed[:, row, column] = baseline[:, row, column]
            for row, column in inside:
                maps[row, column] = score(image) - score(changed)
    return maps


# --- RISE ------------------------------------------------------------------------------------------


def rise_mask(grid: np.ndarray, shift: Sequence[int], side: int) -> np.ndarray:
    """A grid upsampled by one cell more than the image, between the centers of its cells, mirrored there, and cut."""
    cells = len(grid)
    upsampled = (cells + 1) * math.ceil(side / cells)
    mirrored = np.pad(grid, 1, mode="reflect")
    mask = np.zeros((side, side))
    for row in range(side):
        for column in range(side):
            # the first center of the padded grid is one cell before that of the grid
            y = (row + shift[0] + 0.5) * cells / upsampled + 0.5
            x = (column + shift[1] + 0.5) * cells / upsampled + 0.5
            top, left = int(y), int(x)
            dy, dx = y - top, x - left
            mask[row, column] = (
                mirrored[top, left] * (1 - dy) * (1 - dx)
                + mirrored[top, left + 1] * (1 - dy) * dx
                + mirrored[top + 1, left] * dy * (1 - dx)
                + mirrored[top + 1, left + 1] * dy * dx
            )
    return mask


def rise(
    image: np.ndarray, color: np.ndarray, probability: Score, masks: Sequence[np.ndarray], keep: float
) -> np.ndarray:
    """Petsiuk et al. 2018, Eq. 6; hidden pixels blend into a color."""
    total = np.zeros(image.shape[1:])
    for mask in masks:
        total += probability(image * mask + color[:, None, None] * (1 - mask)) * mask
    return total / (keep * len(masks))


# --- Shapley values --------------------------------------------------------------------------------


def shown(image: np.ndarray, baseline: np.ndarray, labels: np.ndarray, coalition: Sequence[bool]) -> np.ndarray:
    """The image where segments of the coalition are, else the baseline."""
    mixed = baseline.copy()
    for segment, present in enumerate(coalition):
        if present:
            mixed[:, labels == segment] = image[:, labels == segment]
    return mixed


def shapley_values(value: Callable[[Sequence[bool]], float], count: int) -> np.ndarray:
    """Mean marginal contribution over all orders in which segments may arrive."""
    total = np.zeros(count)
    orders = list(itertools.permutations(range(count)))
    for order in orders:
        present = [False] * count
        before = value(present)
        for segment in order:
            present[segment] = True
            after = value(present)
            total[segment] += after - before
            before = after
    return total / len(orders)


def shapley_least_squares(
    value: Callable[[Sequence[bool]], float], coalitions: Sequence[Sequence[bool]], weights: Sequence[float]
) -> np.ndarray:
    """Constrained weighted least squares by its optimality conditions; of all solutions the one of equal shares.

    Unknowns are the deviations from equal shares, the Lagrange multiplier last.
    """
    count = len(coalitions[0])
    empty, full = value([False] * count), value([True] * count)
    equal = (full - empty) / count
    system, right = np.zeros((count + 1, count + 1)), np.zeros(count + 1)
    for coalition, weight in zip(coalitions, weights, strict=True):
        z = np.array(coalition, dtype=np.float64)
        system[:count, :count] += weight * np.outer(z, z)
        right[:count] += weight * z * (value(coalition) - empty - equal * z.sum())
    system[:count, count] = system[count, :count] = 1
    return equal + np.linalg.lstsq(system, right, rcond=1e-12)[0][:count]


def shapley_kernel(count: int, size: int) -> float:
    """Lundberg & Lee 2017, Theorem 2."""
    return (count - 1) / (math.comb(count, size) * size * (count - size))


# --- information bottleneck ------------------------------------------------------------------------


def smooth(mask: Tensor, sigma: float) -> Tensor:
    """Two-dimensional Gaussian, cut at two sigma, over a mask mirrored at its border; position by position."""
    reach = round(2 * sigma)
    if reach == 0:
        return mask
    offsets = list(itertools.product(range(-reach, reach + 1), repeat=2))
    kernel = [math.exp(-(dy**2 + dx**2) / (2 * sigma**2)) for dy, dx in offsets]
    height, width = mask.shape[1:]

    def mirrored(position: int, side: int) -> int:
        while not 0 <= position < side:
            position = -position if position < 0 else 2 * (side - 1) - position
        return position

    rows = []
    for row in range(height):
        values = [
            sum(
                weight * mask[:, mirrored(row + dy, height), mirrored(column + dx, width)]
                for (dy, dx), weight in zip(offsets, kernel, strict=True)
            )
            for column in range(width)
        ]
        rows.append(torch.stack([torch.as_tensor(value) for value in values], dim=1))
    return torch.stack(rows, dim=1) / sum(kernel)


def bottleneck_bits(
    features: Tensor,
    mean: Tensor,
    sd: Tensor,
    active: Tensor,
    noises: Sequence[Sequence[Tensor]],
    loss: Callable[[Tensor], Tensor],
    *,
    beta: float,
    learning_rate: float,
    sigma: float,
) -> np.ndarray:
    """Schulz et al. 2020, one image: `noises` hold one list of samples a step, `loss` is that of one changed output."""
    alpha = torch.full_like(features, 5.0)
    first, second = torch.zeros_like(alpha), torch.zeros_like(alpha)
    for step, samples in enumerate(noises, start=1):
        alpha.requires_grad_()
        mask = smooth(torch.sigmoid(alpha), sigma)
        total = beta * _capacity(features, mean, sd, active, mask).mean()
        for noise in samples:
            restricted = mask * features + (1 - mask) * (mean + sd * noise)
            total = total + loss(restricted * active) / len(samples)
        (slope,) = torch.autograd.grad(total, alpha)
        # Adam, as Kingma & Ba 2015 have it
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        change = first / (1 - 0.9**step) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        alpha = (alpha - learning_rate * change).detach()
    capacity = _capacity(features, mean, sd, active, smooth(torch.sigmoid(alpha), sigma))
    return (capacity.sum(0) / math.log(2)).numpy()


def _capacity(features: Tensor, mean: Tensor, sd: Tensor, active: Tensor, mask: Tensor) -> Tensor:
    """KL of N(lambda r + (1 - lambda) mean, ((1 - lambda) sd)^2) from N(mean, sd^2), value by value."""
    center, spread = mask * features + (1 - mask) * mean, (1 - mask) * sd
    divergence = torch.log(sd / spread) + (spread**2 + (center - mean) ** 2) / (2 * sd**2) - 0.5
    return divergence * active


def upsample(small: np.ndarray, side: int) -> np.ndarray:
    """Each output center between its four nearest input centers, clamped at the border."""
    cells = len(small)
    large = np.zeros((side, side))
    for row in range(side):
        for column in range(side):
            y = min(max((row + 0.5) * cells / side - 0.5, 0), cells - 1)
            x = min(max((column + 0.5) * cells / side - 0.5, 0), cells - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, cells - 1), min(left + 1, cells - 1)
            dy, dx = y - top, x - left
            large[row, column] = (
                small[top, left] * (1 - dy) * (1 - dx)
                + small[top, right] * (1 - dy) * dx
                + small[bottom, left] * dy * (1 - dx)
                + small[bottom, right] * dy * dx
            )
    return large


def welford(outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, standard deviation and activity of every neuron, one image after the other, as the authors estimate them.

    The published `TorchWelfordEstimator`: m += (x - m) / n, s += (x - m_before)(x - m); sd = sqrt(s / (n - 1)); active
    where more than 1 % of the images give another value than zero.
    """
    mean, squares, nonzero = (np.zeros(outputs.shape[1:]) for _ in range(3))
    for count, image in enumerate(outputs, 1):
        before = mean.copy()
        mean += (image - mean) / count
        squares += (image - before) * (image - mean)
        nonzero += image != 0
    return mean, np.sqrt(squares / (len(outputs) - 1)), nonzero / len(outputs) > 0.01
