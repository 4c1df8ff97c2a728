"""Every formula of the library once more: slowly, in float64, with plain loops, straight from its definition.

Nothing here is shared with the library, so a mistake would have to be made twice to go unseen. Images and maps
are nested lists or arrays of one image, never a batch.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

NAN = math.nan

# --- augmentations: definitions 1 ------------------------------------------------------------------


def brightness(image: np.ndarray, value: float) -> np.ndarray:
    """rgb * clip(V+v,0,1)/V, and the gray clip(v,0,1) where V = 0."""

    def change(red: float, green: float, blue: float) -> tuple[float, float, float]:
        v = max(red, green, blue)
        target = min(max(v + value, 0.0), 1.0)
        if v == 0:
            return target, target, target
        return red * target / v, green * target / v, blue * target / v

    return _per_pixel(image, change)


def hue(image: np.ndarray, degrees: float) -> np.ndarray:
    """Degrees added to the hue of HSV, through colorsys."""

    def change(red: float, green: float, blue: float) -> tuple[float, float, float]:
        h, s, v = colorsys.rgb_to_hsv(red, green, blue)
        return colorsys.hsv_to_rgb((h + degrees / 360) % 1, s, v)

    return _per_pixel(image, change)


def saturation(image: np.ndarray, value: float) -> np.ndarray:
    """Value added to S of HSV and clipped, through colorsys."""

    def change(red: float, green: float, blue: float) -> tuple[float, float, float]:
        h, s, v = colorsys.rgb_to_hsv(red, green, blue)
        return colorsys.hsv_to_rgb(h, min(max(s + value, 0.0), 1.0), v)

    return _per_pixel(image, change)


def _per_pixel(image: np.ndarray, change) -> np.ndarray:  # noqa: ANN001 - a function of three numbers
    changed = np.zeros(image.shape, dtype=np.float64)
    for row in range(image.shape[1]):
        for column in range(image.shape[2]):
            changed[:, row, column] = change(*(float(value) for value in image[:, row, column]))
    return changed


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Counter-clockwise on the screen about ((H-1)/2, (W-1)/2), bilinear, filled with 0."""
    angle = math.radians(degrees)
    cy, cx = (image.shape[1] - 1) / 2, (image.shape[2] - 1) / 2

    def source(row: float, column: float) -> tuple[float, float]:
        # on paper, with y pointing up: turn the target back by the angle
        x, y = column - cx, cy - row
        back_x = x * math.cos(-angle) - y * math.sin(-angle)
        back_y = x * math.sin(-angle) + y * math.cos(-angle)
        return cy - back_y, cx + back_x

    return _resample(image, source)


def translate(image: np.ndarray, fraction: float) -> np.ndarray:
    """Right and down by the same fraction of each side, bilinear, filled with 0."""
    _, height, width = image.shape
    return _resample(image, lambda row, column: (row - fraction * height, column - fraction * width))


def scale(image: np.ndarray, factor: float) -> np.ndarray:
    """Enlarged by a factor about ((H-1)/2, (W-1)/2), bilinear, filled with 0."""
    cy, cx = (image.shape[1] - 1) / 2, (image.shape[2] - 1) / 2
    return _resample(image, lambda row, column: (cy + (row - cy) / factor, cx + (column - cx) / factor))


def _resample(image: np.ndarray, source) -> np.ndarray:  # noqa: ANN001 - (row, column) to (row, column)
    channels, height, width = image.shape
    result = np.zeros(image.shape, dtype=np.float64)
    for row in range(height):
        for column in range(width):
            y, x = source(row, column)
            top, left = math.floor(y), math.floor(x)
            for near_row, weight_row in ((top, 1 - (y - top)), (top + 1, y - top)):
                for near_column, weight_column in ((left, 1 - (x - left)), (left + 1, x - left)):
                    if 0 <= near_row < height and 0 <= near_column < width:
                        for channel in range(channels):
                            value = float(image[channel, near_row, near_column])
                            result[channel, row, column] += weight_row * weight_column * value
    return result


# --- similarity of maps: definitions 1 -------------------------------------------------------------


def reduce_channels(attribution: np.ndarray, how: str) -> np.ndarray:
    """(C,H,W) to (H,W) by sum, mean or largest absolute value."""
    channels, height, width = attribution.shape
    reduced = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            values = [float(attribution[channel, row, column]) for channel in range(channels)]
            match how:
                case "sum":
                    reduced[row, column] = sum(values)
                case "mean":
                    reduced[row, column] = sum(values) / channels
                case "max_abs":
                    reduced[row, column] = max(abs(value) for value in values)
    return reduced


def pearson(a: Sequence[float], b: Sequence[float]) -> float:
    """Correlation of two lists of values, NaN when one is constant."""
    mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
    covariance = math.fsum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    variance_a = math.fsum((x - mean_a) ** 2 for x in a)
    variance_b = math.fsum((y - mean_b) ** 2 for y in b)
    return NAN if variance_a == 0 or variance_b == 0 else covariance / math.sqrt(variance_a * variance_b)


def ranking(values: Sequence[float], ties: Sequence[float]) -> list[int]:
    """Positions by descending value; among equal values by descending tie-breaker."""
    return sorted(range(len(values)), key=lambda position: (-values[position], -ties[position]))


def top_k_overlap(
    a: Sequence[float], b: Sequence[float], k: int, ties_a: Sequence[float], ties_b: Sequence[float]
) -> tuple[float, int, float]:
    """|top-k(a) and top-k(b)|/k, the k used and chance, over the values that count."""
    support = min(sum(value != 0 for value in a), sum(value != 0 for value in b))
    k = min(k, len(a) - 1, support)
    if k <= 0 or len(set(a)) == 1 or len(set(b)) == 1:
        return NAN, 0, NAN
    shared = set(ranking(a, ties_a)[:k]) & set(ranking(b, ties_b)[:k])
    return len(shared) / k, k, k / len(a)


# --- curves: definitions 1 and 3 -------------------------------------------------------------------


def trapezoid(curve: Sequence[float], x: Sequence[float]) -> float:
    """Sum of (x1 - x0) * (c0 + c1) / 2."""
    return math.fsum((x[i + 1] - x[i]) * (curve[i] + curve[i + 1]) / 2 for i in range(len(curve) - 1))


def anchored_area(curve: Sequence[float], x: Sequence[float], identity: int, anchor: str) -> float:
    """Area over [lo,hi] / (hi-lo) of the curve shifted to 1 at the identity or at its maximum."""
    shift = 1 - (curve[identity] if anchor == "identity" else max(curve))
    return trapezoid([value + shift for value in curve], x) / (x[-1] - x[0])


def deletion_auc(curve: Sequence[float]) -> float:
    """Trapezoid with dx = 1/G over 0..G deletions."""
    cells = len(curve) - 1
    return trapezoid(curve, [step / cells for step in range(cells + 1)])


def rao_auc(curves: Sequence[Sequence[float]]) -> float:
    """Mean area over the random orders."""
    return math.fsum(deletion_auc(curve) for curve in curves) / len(curves)


def inter_model_deletion(lerf: Sequence[float], rao: Sequence[Sequence[float]]) -> float:
    """lerf_auc - rao_auc."""
    return deletion_auc(lerf) - rao_auc(rao)


def symmetric_relevance_gain(lerf: Sequence[float], morf: Sequence[float]) -> float:
    """lerf_auc - morf_auc."""
    return deletion_auc(lerf) - deletion_auc(morf)


# --- cells: definitions 3 --------------------------------------------------------------------------


def cell_of(row: int, column: int, height: int, width: int, grid: int) -> int:
    """Cell (r,c) holds pixels with floor(i*g/H)=r, floor(j*g/W)=c."""
    return math.floor(row * grid / height) * grid + math.floor(column * grid / width)


def cell_relevance(reduced: np.ndarray, grid: int) -> list[float]:
    """Mean of the reduced map over each cell."""
    height, width = reduced.shape
    members: list[list[float]] = [[] for _ in range(grid * grid)]
    for row in range(height):
        for column in range(width):
            members[cell_of(row, column, height, width, grid)].append(float(reduced[row, column]))
    return [math.fsum(values) / len(values) for values in members]


def deleted_after(order: Sequence[int], steps: int, height: int, width: int, grid: int) -> np.ndarray:
    """Which pixels are gone after some deletions in the order given."""
    gone = set(order[:steps])
    return np.array(
        [[cell_of(row, column, height, width, grid) in gone for column in range(width)] for row in range(height)]
    )


# --- EDDA: definitions 4 ---------------------------------------------------------------------------


def min_max_scale(reduced: np.ndarray) -> np.ndarray:
    """(s - min) / (max - min)."""
    values = [float(value) for value in reduced.ravel()]
    low, high = min(values), max(values)
    return np.array([(value - low) / (high - low) for value in values]).reshape(reduced.shape)


def keep_mask(reduced: np.ndarray, share: float, ties: np.ndarray) -> np.ndarray:
    """The top round(share*H*W) pixels."""
    keep = ranking(reduced.ravel().tolist(), ties.ravel().tolist())[: round(share * reduced.size)]
    mask = np.zeros(reduced.size, dtype=bool)
    for position in keep:
        mask[position] = True
    return mask.reshape(reduced.shape)


def sufficiency(original: float, kept: float) -> float:
    """p_y(x_umask) - p_y(x)."""
    return kept - original


def comprehensiveness(original: float, removed: float) -> float:
    """p_y(x) - p_y(x_imask)."""
    return original - removed


def drop_percent(original: float, kept: float) -> float:
    """max(0, p(x)-p(x_umask))/p(x)*100."""
    return NAN if original < 1e-8 else max(0.0, original - kept) / original * 100


def increase_percent(original: float, kept: float) -> float:
    """max(0, p(x_umask)-p(x))/p(x)*100."""
    return NAN if original < 1e-8 else max(0.0, kept - original) / original * 100


# --- statistics: definitions 10 --------------------------------------------------------------------


def mean_std_sem(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, sample standard deviation and standard error."""
    n = len(values)
    mean = math.fsum(values) / n
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return mean, std, std / math.sqrt(n)


def bootstrap_means(values: Sequence[float], uniform: np.ndarray) -> list[float]:
    """Mean of every resample: draw number j of a resample takes value floor(u_j * n)."""
    n = len(values)
    return [math.fsum(values[int(u * n)] for u in row[:n]) / n for row in uniform]


def bca_interval(values: Sequence[float], means: Sequence[float]) -> tuple[float, float]:
    """Bias-corrected and accelerated 95 % interval of the mean (Efron 1987), from given resamples."""
    normal = NormalDist()
    n = len(values)
    estimate = math.fsum(values) / n
    below = sum(mean < estimate for mean in means)
    tied = sum(mean == estimate for mean in means)
    bias = normal.inv_cdf((below + tied / 2) / len(means))
    jackknife = [(math.fsum(values) - value) / (n - 1) for value in values]
    center = math.fsum(jackknife) / n
    cubes = math.fsum((center - value) ** 3 for value in jackknife)
    squares = math.fsum((center - value) ** 2 for value in jackknife)
    acceleration = cubes / (6 * squares**1.5)
    ends = []
    for tail in (0.025, 0.975):
        shifted = bias + normal.inv_cdf(tail)
        ends.append(quantile(means, normal.cdf(bias + shifted / (1 - acceleration * shifted))))
    return ends[0], ends[1]


def quantile(values: Sequence[float], probability: float) -> float:
    """Linear between order statistics."""
    ordered = sorted(values)
    position = probability * (len(ordered) - 1)
    lower = math.floor(position)
    upper = min(lower + 1, len(ordered) - 1)
    return ordered[lower] + (ordered[upper] - ordered[lower]) * (position - lower)
