"""Every formula of the library once more: slowly, in float64, with plain loops, straight from its definition.

Nothing here is shared with the library, so a mistake would have to be made twice to go unseen. Images and maps
are nested lists or arrays of one image, never a batch.
"""

from __future__ import annotations

import colorsys
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

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


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """gray + factor * (rgb - gray), clipped, with gray the mean of .2989 R + .587 G + .114 B over the image."""
    _, height, width = image.shape
    grays = [
        0.2989 * float(image[0, row, column])
        + 0.587 * float(image[1, row, column])
        + 0.114 * float(image[2, row, column])
        for row in range(height)
        for column in range(width)
    ]
    gray = math.fsum(grays) / len(grays)
    return _per_value(image, lambda value, _position: min(max(gray + factor * (value - gray), 0.0), 1.0))


def gaussian_noise(image: np.ndarray, std: float, field: np.ndarray) -> np.ndarray:
    """Value + std * standard normal number, clipped."""
    return _per_value(image, lambda value, position: min(max(value + std * float(field[position]), 0.0), 1.0))


def horizontal_flip(image: np.ndarray, value: float) -> np.ndarray:
    """Column j comes from column W - 1 - j if the value is 1."""
    width = image.shape[2]
    flipped = np.zeros(image.shape)
    for column in range(width):
        flipped[:, :, column] = image[:, :, width - 1 - column if value == 1 else column]
    return flipped


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Two-dimensional Gaussian up to 4 sigmas, mirrored beyond the edge, which counts once."""
    if sigma == 0:
        return image.astype(np.float64)
    channels, height, width = image.shape
    radius = int(4 * sigma + 0.5)
    kernel = {
        (dy, dx): math.exp(-(dy**2 + dx**2) / (2 * sigma**2))
        for dy in range(-radius, radius + 1)
        for dx in range(-radius, radius + 1)
    }
    total = math.fsum(kernel.values())

    def mirrored(position: int, side: int) -> int:
        if side == 1:
            return 0
        while not 0 <= position < side:
            position = -position if position < 0 else 2 * (side - 1) - position
        return position

    blurred = np.zeros(image.shape)
    for row in range(height):
        for column in range(width):
            for (dy, dx), weight in kernel.items():
                source = (mirrored(row + dy, height), mirrored(column + dx, width))
                for channel in range(channels):
                    blurred[channel, row, column] += weight / total * float(image[channel, *source])
    return blurred


LUMINANCE_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(((99,) * 8,) * 4),
)
"""Annex K of ITU-T T.81."""


def jpeg_quality(image: np.ndarray, quality: float) -> np.ndarray:
    """What JPEG loses, without its entropy coding: color at half resolution, 8 x 8 cosines rounded to tables.

    Sides must be multiples of 16.
    """
    rgb = [[[round(float(value) * 255) for value in row] for row in channel] for channel in image]
    height, width = image.shape[1:]
    luma, blue, red = np.zeros((height, width)), np.zeros((height, width)), np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            r, g, b = (rgb[channel][row][column] for channel in range(3))
            luma[row, column] = round(0.299 * r + 0.587 * g + 0.114 * b)
            blue[row, column] = round(128 - 0.168736 * r - 0.331264 * g + 0.5 * b)
            red[row, column] = round(128 + 0.5 * r - 0.418688 * g - 0.081312 * b)
    luma = _quantized_cosines(luma, LUMINANCE_TABLE, round(quality))
    blue, red = (
        _fancy_upsampled(_quantized_cosines(_halved(plane), CHROMINANCE_TABLE, round(quality))) for plane in (blue, red)
    )
    decoded = np.zeros(image.shape)
    for row in range(height):
        for column in range(width):
            y, cb, cr = luma[row, column], blue[row, column] - 128, red[row, column] - 128
            colors = (y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb)
            decoded[:, row, column] = [min(max(round(color), 0), 255) / 255 for color in colors]
    return decoded


def _halved(plane: np.ndarray) -> np.ndarray:
    height, width = plane.shape
    return np.array(
        [
            [float(plane[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean()) for column in range(width // 2)]
            for row in range(height // 2)
        ]
    )


def _fancy_upsampled(plane: np.ndarray) -> np.ndarray:
    """Triangle filter of libjpeg: 3/4 the nearer and 1/4 the farther neighbor, along both sides."""

    def doubled(values: list[float]) -> list[float]:
        last = len(values) - 1
        return [
            (3 * values[i] + values[min(max(i + side, 0), last)]) / 4 for i in range(len(values)) for side in (-1, 1)
        ]

    rows = np.array([doubled(row.tolist()) for row in plane])
    return np.array([doubled(column.tolist()) for column in rows.T]).T


def _quantized_cosines(plane: np.ndarray, table: Sequence[Sequence[int]], quality: int) -> np.ndarray:
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = [[min(max((base * percent + 50) // 100, 1), 255) for base in row] for row in table]
    basis = np.array(
        [
            [math.sqrt((1 if u == 0 else 2) / 8) * math.cos((2 * x + 1) * u * math.pi / 16) for x in range(8)]
            for u in range(8)
        ]
    )
    decoded = np.zeros(plane.shape)
    for top in range(0, plane.shape[0], 8):
        for left in range(0, plane.shape[1], 8):
            cosines = basis @ (plane[top : top + 8, left : left + 8] - 128) @ basis.T
            kept = [[round(cosines[v, u] / steps[v][u]) * steps[v][u] for u in range(8)] for v in range(8)]
            block = basis.T @ np.array(kept, dtype=np.float64) @ basis + 128
            decoded[top : top + 8, left : left + 8] = np.clip(np.round(block), 0, 255)
    return decoded


def gmic_sharpen(image: np.ndarray, share: float) -> np.ndarray:
    """The command `sharpen 300` of G'MIC, inverse diffusion, blended with the image.

    To each value is added its excess over its four neighbors (edges repeated), scaled so that the largest excess of
    the image, in levels of 0 to 255, becomes 300; then the values are cut to the range that the image had.
    """
    channels, height, width = image.shape
    levels = image.astype(np.float64) * 255
    excess = np.zeros(image.shape)
    for channel in range(channels):
        for row in range(height):
            for column in range(width):
                neighbors = (
                    levels[channel, max(row - 1, 0), column],
                    levels[channel, min(row + 1, height - 1), column],
                    levels[channel, row, max(column - 1, 0)],
                    levels[channel, row, min(column + 1, width - 1)],
                )
                excess[channel, row, column] = 4 * levels[channel, row, column] - sum(neighbors)
    largest = max(abs(float(value)) for value in excess.ravel())
    low, high = float(levels.min()), float(levels.max())
    sharp = _per_value(levels, lambda value, at: min(max(value + 300 / largest * float(excess[at]), low), high) / 255)
    return _per_value(image, lambda value, at: (1 - share) * value + share * float(sharp[at]))


def _per_value(image: np.ndarray, change) -> np.ndarray:  # noqa: ANN001 - (value, position) to a value
    changed = np.zeros(image.shape)
    for position in np.ndindex(*image.shape):
        changed[position] = change(float(image[position]), position)
    return changed


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


SIZED = frozenset(
    {
        *("gradient", "saliency", "smoothgrad", "guided_backpropagation", "deconvolution", "guided_grad_cam"),
        *("input_x_gradient", "integrated_gradients", "gradient_shap", "deep_lift"),
        "lrp_epsilon_alpha2_beta1_flat",
    }
)
"""Kinds of explainers whose maps `auto` orders by magnitude, as the definitions list them."""

SIGNED = frozenset(
    {
        *("grad_cam", "iba", "lrp_epsilon_plus_flat", "lrp_epsilon_gamma_box", "occlusion", "ablation", "rise"),
        *("kernel_shap", "random", "precomputed", "attn_lrp", "attention_rollout", "gradient_weighted_attention"),
    }
)
"""Kinds whose maps `auto` orders by sign."""


def order_of(rank_by: str, kind: str) -> str:
    """Signed or magnitude, of one explainer."""
    return ("magnitude" if kind in SIZED else "signed") if rank_by == "auto" else rank_by


def ranking_relevance(attribution: np.ndarray, order: str, reduce: str) -> np.ndarray:
    """(C,H,W) to what pixels are ordered by."""
    return reduce_channels(attribution, "max_abs" if order == "magnitude" else reduce)


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


def top_k_membership(values: Sequence[float], k: int) -> list[Fraction]:
    """To what degree each position is among the k largest: ties at the k-th value share what is left of the k."""
    last = sorted(values, reverse=True)[k - 1]
    above = sum(value > last for value in values)
    share = Fraction(k - above, sum(value == last for value in values))
    return [Fraction(1) if value > last else share if value == last else Fraction(0) for value in values]


def top_k_overlap(a: Sequence[float], b: Sequence[float], k: int) -> tuple[float, int, float]:
    """sum of min(m_a, m_b) / k, the k used, and the same if every position meets every other one equally often."""
    support = min(sum(value != 0 for value in a), sum(value != 0 for value in b))
    k = min(k, len(a) - 1, support)
    if k <= 0 or len(set(a)) == 1 or len(set(b)) == 1:
        return NAN, 0, NAN
    first, second = top_k_membership(resolved(a), k), top_k_membership(resolved(b), k)
    shared = sum(min(m_a, m_b) for m_a, m_b in zip(first, second, strict=True))
    met = sum(
        count_a * count_b * min(m_a, m_b)
        for m_a, count_a in Counter(first).items()
        for m_b, count_b in Counter(second).items()
    )
    return float(shared / k), k, float(Fraction(met) / len(a) / k)


def structural_similarity(
    a: np.ndarray, b: np.ndarray, data_range: float, window: int = 11, mask: np.ndarray | None = None
) -> float:
    """Mean over channels and over the windows inside the mask; sample covariances; k1 .01, k2 .03. NaN without one."""
    channels, height, width = a.shape
    inside = np.ones((height, width), dtype=bool) if mask is None else mask
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    found = []
    for channel in range(channels):
        for row in range(height - window + 1):
            for column in range(width - window + 1):
                square = (slice(row, row + window), slice(column, column + window))
                if not inside[square].all():
                    continue
                xs = [float(value) for value in a[channel][square].ravel()]
                ys = [float(value) for value in b[channel][square].ravel()]
                n = len(xs)
                mean_x, mean_y = math.fsum(xs) / n, math.fsum(ys) / n
                var_x = math.fsum((x - mean_x) ** 2 for x in xs) / (n - 1)
                var_y = math.fsum((y - mean_y) ** 2 for y in ys) / (n - 1)
                covariance = math.fsum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / (n - 1)
                found.append(
                    (2 * mean_x * mean_y + c1)
                    * (2 * covariance + c2)
                    / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
                )
    return math.fsum(found) / len(found) if found else NAN


def resample(image: np.ndarray, part: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """A part of an image, from top, left to bottom, right, on a grid: a triangle filter around each position."""

    def weights(length: int, low: float, high: float, count: int) -> list[list[float]]:
        step = (high - low) / count
        reach = max(1.0, step)
        rows = []
        for position in range(count):
            center = low + (position + 0.5) * step
            row = [max(0.0, 1 - abs(pixel + 0.5 - center) / reach) for pixel in range(length)]
            rows.append([weight / sum(row) for weight in row])
        return rows

    top, left, bottom, right = part
    down, across = weights(image.shape[0], top, bottom, size[0]), weights(image.shape[1], left, right, size[1])
    return np.array(
        [
            [
                sum(
                    down[row][y] * across[column][x] * image[y, x]
                    for y in range(image.shape[0])
                    for x in range(image.shape[1])
                )
                for column in range(size[1])
            ]
            for row in range(size[0])
        ]
    )


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


def cell_of(row: int, column: int, height: int, width: int, grid: tuple[int, int]) -> int:
    """Cell (r,c) holds pixels with floor(i*R/H)=r, floor(j*C/W)=c."""
    rows, columns = grid
    return math.floor(row * rows / height) * columns + math.floor(column * columns / width)


def cell_relevance(reduced: np.ndarray, grid: tuple[int, int]) -> list[float]:
    """Mean of the reduced map over each cell."""
    height, width = reduced.shape
    members: list[list[float]] = [[] for _ in range(grid[0] * grid[1])]
    for row in range(height):
        for column in range(width):
            members[cell_of(row, column, height, width, grid)].append(float(reduced[row, column]))
    return [math.fsum(values) / len(values) for values in members]


def deleted_after(order: Sequence[int], steps: int, height: int, width: int, grid: tuple[int, int]) -> np.ndarray:
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


def threshold_masks(reduced: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """s > tau and s < tau of the map between its extremes; s and tau in steps of 2^-17, where equal is neither."""
    low, high = float(reduced.min()), float(reduced.max())
    above, below = np.zeros(reduced.shape, dtype=bool), np.zeros(reduced.shape, dtype=bool)
    for place in np.ndindex(reduced.shape):
        scaled = round((float(reduced[place]) - low) / (high - low) * 2**17)
        above[place], below[place] = scaled > round(threshold * 2**17), scaled < round(threshold * 2**17)
    return above, below


def drop_percent(original: float, kept: float, min_probability: float) -> float:
    """max(0, p(x)-p(x_umask))/p(x)*100."""
    return NAN if original < min_probability else max(0.0, original - kept) / original * 100


def increase_percent(original: float, kept: float, min_probability: float) -> float:
    """max(0, p(x_umask)-p(x))/p(x)*100."""
    return NAN if original < min_probability else max(0.0, kept - original) / original * 100


# --- removing pixels one after the other: definitions 5 and 6, ROAD --------------------------------


def removal_counts(pixels: int, pixels_per_step: int, share: str) -> list[int]:
    """0, s, 2s, ... and round(share * H * W), of the share as it is written; halves to even."""
    last = max(1, int((Decimal(share) * pixels).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)))
    counts = [0]
    while counts[-1] < last:
        counts.append(min(counts[-1] + pixels_per_step, last))
    return counts


def resolved(values: Sequence[float]) -> list[float]:
    """Floating-point numbers of 17 bits as their place among all of them, with one step for all below the scale.

    The scale is the power of two at or below the k-th largest size, k a tenth of the values that are not zero.
    """
    sizes = sorted((abs(value) for value in values if value != 0), reverse=True)
    if not sizes:
        return [0.0 for _ in values]
    kth = sizes[math.ceil(Fraction(len(sizes), 10)) - 1]
    scale = max(math.frexp(kth)[1] - 1, -126)
    found = []
    for value in values:
        # the power of two at or below the value, or the scale
        power = scale
        while abs(value) >= 2.0 ** (power + 1):
            power += 1
        # ldexp changes only the exponent, and round() takes the even one of two that are as near
        steps = (power - scale) * 2**16 + round(math.ldexp(abs(value), 16 - power))
        found.append(math.copysign(steps, value) if steps else 0.0)
    return found


def exchanged(before: np.ndarray, after: np.ndarray, pixels: Sequence[int]) -> np.ndarray:
    """A copy of one picture in which some pixels, in all channels, are those of another."""
    picture = np.array(before, dtype=np.float64)
    for pixel in pixels:
        row, column = divmod(pixel, before.shape[2])
        for channel in range(before.shape[0]):
            picture[channel, row, column] = after[channel, row, column]
    return picture


def relative_curve(curve: Sequence[float], original: float) -> list[float]:
    """p(x_k) / p(x), clipped at 1."""
    return [NAN if original < 1e-8 else min(1.0, value / original) for value in curve]


def pixel_flipping_aoc(relative: Sequence[float], counts: Sequence[int]) -> float:
    """Area over the curve between the first and the last count, as a share of the whole."""
    return trapezoid([1 - value for value in relative], counts) / (counts[-1] - counts[0])


def insertion_deletion_auc(curve: Sequence[float]) -> float:
    """(sum - half first - half last) / (n - 1)."""
    return (math.fsum(curve) - curve[0] / 2 - curve[-1] / 2) / (len(curve) - 1)


def linear_imputation(image: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """x_i = sum_j w_j x_j, w = 1/6 (4-neighbors), 1/12 (diagonals), renormalized at borders; one dense system."""
    channels, height, width = image.shape
    unknown = [(row, column) for row in range(height) for column in range(width) if missing[row, column]]
    number = {pixel: equation for equation, pixel in enumerate(unknown)}
    matrix = np.eye(len(unknown))
    right = np.zeros((len(unknown), channels))
    for equation, (row, column) in enumerate(unknown):
        weights = {}
        for near_row in range(row - 1, row + 2):
            for near_column in range(column - 1, column + 2):
                if (near_row, near_column) != (row, column) and 0 <= near_row < height and 0 <= near_column < width:
                    weights[near_row, near_column] = 1 / 6 if row == near_row or column == near_column else 1 / 12
        total = sum(weights.values())
        for (near_row, near_column), weight in weights.items():
            if missing[near_row, near_column]:
                matrix[equation, number[near_row, near_column]] -= weight / total
            else:
                right[equation] += weight / total * image[:, near_row, near_column]
    imputed = np.array(image, dtype=np.float64)
    for (row, column), values in zip(unknown, np.linalg.solve(matrix, right), strict=True):
        imputed[:, row, column] = values
    return imputed


# --- sensitivity and infidelity: definitions 7 -----------------------------------------------------


def relative_distance(original: np.ndarray, changed: np.ndarray) -> float:
    """||a(x+d) - a(x)||_2 / ||a(x)||_2."""
    pairs = list(zip(original.ravel().tolist(), changed.ravel().tolist(), strict=True))
    length = math.sqrt(math.fsum(before * before for before, _ in pairs))
    moved = math.sqrt(math.fsum((after - before) ** 2 for before, after in pairs))
    return NAN if length == 0 else moved / length


def account_of_noise(attribution: np.ndarray, noise: np.ndarray) -> float:
    """I . a; a map of one channel gives every channel of the noise an equal part of each pixel's relevance."""
    channels, height, width = noise.shape
    terms = []
    for channel in range(channels):
        for row in range(height):
            for column in range(width):
                part = float(attribution[0, row, column]) / channels
                if attribution.shape[0] > 1:
                    part = float(attribution[channel, row, column])
                terms.append(float(noise[channel, row, column]) * part)
    return math.fsum(terms)


def infidelity(accounts: Sequence[float], changes: Sequence[float], *, normalize: bool) -> float:
    """Mean of (beta I.a - df)^2, beta = 1 or E[I.a df] / E[(I.a)^2]."""
    beta = 1.0
    if normalize:
        squares = math.fsum(account * account for account in accounts)
        if squares == 0:
            return NAN
        beta = math.fsum(account * change for account, change in zip(accounts, changes, strict=True)) / squares
    errors = [(beta * account - change) ** 2 for account, change in zip(accounts, changes, strict=True)]
    return math.fsum(errors) / len(errors)


# --- localization: definitions 8 -------------------------------------------------------------------


def in_boxes(row: int, column: int, boxes: Sequence[tuple[int, int, int, int]]) -> bool:
    """Whether a pixel is in one of the boxes (x0, y0, x1, y1); rows are y."""
    return any(x0 <= column < x1 and y0 <= row < y1 for x0, y0, x1, y1 in boxes)


def energy_pointing_game(reduced: np.ndarray, boxes: Sequence[tuple[int, int, int, int]]) -> float:
    """Positive relevance inside / positive relevance."""
    inside, everywhere = [], []
    for row in range(reduced.shape[0]):
        for column in range(reduced.shape[1]):
            heat = max(0.0, float(reduced[row, column]))
            everywhere.append(heat)
            if in_boxes(row, column, boxes):
                inside.append(heat)
    return NAN if math.fsum(everywhere) == 0 else math.fsum(inside) / math.fsum(everywhere)


def effective_heat_ratio(reduced: np.ndarray, boxes: Sequence[tuple[int, int, int, int]]) -> float:
    """Area over q of: heat >= the quantile q inside the boxes / number of pixels >= it, of heat from 0.1 on."""
    top = max(float(value) for value in reduced.ravel())
    if top <= 0:
        return NAN
    pixels = [
        (float(reduced[row, column]) / top, in_boxes(row, column, boxes))
        for row in range(reduced.shape[0])
        for column in range(reduced.shape[1])
        if float(reduced[row, column]) / top >= 0.1
    ]
    levels = [step / 10 for step in range(11)]
    ratios = []
    for level in levels:
        threshold = min(quantile([heat for heat, _ in pixels], level), 0.99)
        hot = [(heat, inside) for heat, inside in pixels if heat >= threshold]
        ratios.append(math.fsum(heat for heat, inside in hot if inside) / len(hot))
    return trapezoid(ratios, levels)


def average_precision(reduced: np.ndarray, mask: Sequence[Sequence[bool]]) -> float:
    """Sum over thresholds of precision times the gain of recall; negative relevance counts as 0."""
    pixels = [
        (max(0.0, float(reduced[row, column])), mask[row][column])
        for row in range(reduced.shape[0])
        for column in range(reduced.shape[1])
    ]
    objects = sum(inside for _, inside in pixels)
    if objects == 0 or max(heat for heat, _ in pixels) == 0:
        return NAN
    area, recall = 0.0, 0.0
    for threshold in sorted({heat for heat, _ in pixels}, reverse=True):
        found = [inside for heat, inside in pixels if heat >= threshold]
        area += sum(found) / len(found) * (sum(found) / objects - recall)
        recall = sum(found) / objects
    return area


def otsu_threshold(reduced: np.ndarray, bins: int = 256) -> float:
    """Center of the bin below and including which one class lies, where the variance between both is largest."""
    heat = [max(0.0, float(value)) for value in reduced.ravel()]
    low, high = min(heat), max(heat)
    centers = [low + (high - low) * (bin_ + 0.5) / bins for bin_ in range(bins)]
    counts = [0] * bins
    for value in heat:
        counts[min(bins - 1, int((value - low) / (high - low) * bins))] += 1
    best, threshold = -1.0, NAN
    for cut in range(1, bins):
        below, above = counts[:cut], counts[cut:]
        if not sum(below) or not sum(above):
            continue
        mean_below = math.fsum(count * center for count, center in zip(below, centers, strict=False)) / sum(below)
        mean_above = math.fsum(count * center for count, center in zip(above, centers[cut:], strict=True)) / sum(above)
        between = sum(below) * sum(above) * (mean_below - mean_above) ** 2
        if between > best * (1 + 1e-12):
            best, threshold = between, centers[cut - 1]
    return threshold


def mask_iou(reduced: np.ndarray, mask: Sequence[Sequence[bool]], threshold: float | None = None) -> float:
    """Pixels above Otsu's threshold, or from a share of the maximum on, against the pixels of the objects."""
    cut = otsu_threshold(reduced) if threshold is None else threshold * float(reduced.max())
    both = either = 0
    for row in range(reduced.shape[0]):
        for column in range(reduced.shape[1]):
            heat = max(0.0, float(reduced[row, column]))
            hot = heat > cut if threshold is None else heat >= cut
            both += hot and mask[row][column]
            either += hot or mask[row][column]
    return both / either


def hit_rate(reduced: np.ndarray, mask: Sequence[Sequence[bool]], tolerance: float) -> float:
    """Share of the largest pixels that have a pixel of an object within the tolerance."""
    places = [(row, column) for row in range(reduced.shape[0]) for column in range(reduced.shape[1])]
    objects = [(row, column) for row, column in places if mask[row][column]]
    top = max(float(value) for value in reduced.ravel())
    largest = [(row, column) for row, column in places if float(reduced[row, column]) == top]
    hits = [any((row - y) ** 2 + (column - x) ** 2 <= tolerance**2 for y, x in objects) for row, column in largest]
    return sum(hits) / len(hits)


def wsol_iou(reduced: np.ndarray, boxes: Sequence[tuple[int, int, int, int]], threshold: float) -> float:
    """Best overlap with the box around all pixels >= threshold * max."""
    top = max(float(value) for value in reduced.ravel())
    if top <= 0 or not boxes:
        return NAN
    return best_overlap(hot_pixels(reduced, threshold * top), boxes, reduced.shape)


def wsol_iou_largest_region(reduced: np.ndarray, boxes: Sequence[tuple[int, int, int, int]], threshold: float) -> float:
    """Best overlap with the box around the largest region of pixels >= threshold * max, grown pixel by pixel."""
    top = max(float(value) for value in reduced.ravel())
    if top <= 0 or not boxes:
        return NAN
    hot = hot_pixels(reduced, threshold * top)
    largest: set[tuple[int, int]] = set()
    while hot:
        start = min(hot)
        hot.remove(start)
        region, border = {start}, [start]
        while border:
            row, column = border.pop()
            near = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & hot
            hot -= near
            region |= near
            border += near
        if len(region) > len(largest):
            largest = region
    return best_overlap(largest, boxes, reduced.shape)


def hot_pixels(reduced: np.ndarray, least: float) -> set[tuple[int, int]]:
    """Row and column of every pixel of at least this value."""
    height, width = reduced.shape
    return {(r, c) for r in range(height) for c in range(width) if float(reduced[r, c]) >= least}


def best_overlap(
    pixels: set[tuple[int, int]], boxes: Sequence[tuple[int, int, int, int]], shape: tuple[int, ...]
) -> float:
    """Intersection over union, by counting, of the box around some pixels with the box that fits it best."""
    rows, columns = [row for row, _ in pixels], [column for _, column in pixels]
    found = (min(columns), min(rows), max(columns) + 1, max(rows) + 1)
    everywhere = [(row, column) for row in range(shape[0]) for column in range(shape[1])]
    overlaps = []
    for box in boxes:
        both = sum(in_boxes(r, c, [box]) and in_boxes(r, c, [found]) for r, c in everywhere)
        either = sum(in_boxes(r, c, [box, found]) for r, c in everywhere)
        overlaps.append(both / either)
    return max(overlaps)


# --- rank correlation and complexity ---------------------------------------------------------------


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Correlation of ranks; equal values get the mean of the ranks they would have."""

    def ranks(values: Sequence[float]) -> list[float]:
        below = [sum(other < value for other in values) for value in values]
        equal = [sum(other == value for other in values) for value in values]
        return [less + (same + 1) / 2 for less, same in zip(below, equal, strict=True)]

    return pearson(ranks(a), ranks(b))


def gini_index(values: Sequence[float]) -> float:
    """1 - 2 sum c_k/sum(c) (n - k + 1/2)/n over ascending absolute values (Hurley & Rickard 2009)."""
    ordered = sorted(abs(value) for value in values)
    n, total = len(ordered), math.fsum(ordered)
    if total == 0:
        return NAN
    return 1 - 2 * math.fsum(c / total * (n - k + 0.5) / n for k, c in enumerate(ordered, start=1))


def entropy(values: Sequence[float]) -> float:
    """-sum p ln p of absolute values divided by their sum."""
    total = math.fsum(abs(value) for value in values)
    if total == 0:
        return NAN
    shares = [abs(value) / total for value in values]
    return -math.fsum(share * math.log(share) for share in shares if share > 0)


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


def bootstrap_t_interval(
    values: Sequence[float], uniform: np.ndarray, *, student: float, stretch: float = 2.0
) -> tuple[float, float]:
    """Bootstrap-t 95 % interval of the mean (Efron 1981), no end farther than `stretch` times Student's t.

    `student` is the 97.5 % quantile of Student's t with n - 1 degrees of freedom.
    """
    n = len(values)
    mean, _, sem = mean_std_sem(values)
    limit = stretch * student
    distances = []
    for row in uniform:
        drawn = [values[int(u * n)] for u in row[:n]]
        if len(set(drawn)) == 1:
            side = 0.0 if math.isclose(drawn[0], mean, rel_tol=1e-12) else math.copysign(1.0, drawn[0] - mean)
            distances.append(side * limit)
            continue
        center, _, error = mean_std_sem(drawn)
        distance = (center - mean) / error
        distances.append(min(max(distance, -limit), limit))
    return mean - quantile(distances, 0.975) * sem, mean - quantile(distances, 0.025) * sem


def gaffke_upper_end(values: Sequence[float], highest: float, weights: Iterable[Sequence[float]]) -> float:
    """97.5 % quantile of the mean of values and bound under random weights: the bound's weight comes last."""
    means = [
        math.fsum(weight * value for weight, value in zip(row, [*values, highest], strict=True)) for row in weights
    ]
    return quantile(means, 0.975)


def weights_of(row: Sequence[float]) -> list[float]:
    """Uniformly random weights that add up to 1, from uniform numbers: exponential ones over their sum."""
    drawn = [-math.log1p(-u) for u in row]
    return [one / math.fsum(drawn) for one in drawn]


def random_mean_distribution(points: Sequence[float], at: float) -> float:
    """Probability that the mean of distinct points under uniformly random weights is at most `at` (Curry &
    Schoenberg 1966: it is the integral of a B-spline with these knots)."""
    n = len(points) - 1
    above = 0.0
    for number, point in enumerate(points):
        if point > at:
            others = [point - other for position, other in enumerate(points) if position != number]
            above += (point - at) ** n / math.prod(others)
    return 1 - above


def distinct_means(values: Sequence[float | None], images: Sequence[str]) -> list[float | None]:
    """Mean of the copies of each image that have a value, in the order of first appearance."""
    means: list[float | None] = []
    for image in dict.fromkeys(images):
        own = [value for value, name in zip(values, images, strict=True) if name == image and value is not None]
        means.append(math.fsum(own) / len(own) if own else None)
    return means


def kendall_w(scores: Sequence[Sequence[float]]) -> float:
    """Kendall's W with ties: spread of the rank sums over the most it could be, ranks counted by hand."""
    judges, items = len(scores), len(scores[0])
    sums = [0.0] * items
    ties = 0.0
    for row in scores:
        for position, value in enumerate(row):
            below = sum(other < value for other in row)
            equal = sum(other == value for other in row)
            sums[position] += below + (equal + 1) / 2
        for value in set(row):
            same = sum(other == value for other in row)
            ties += same**3 - same
    spread = math.fsum((total - judges * (items + 1) / 2) ** 2 for total in sums)
    return 12 * spread / (judges**2 * (items**3 - items) - judges * ties)


def average_over_explainers(values: Sequence[Sequence[float]]) -> list[float]:
    """Image by image; NaN where any explainer has none."""
    return [
        NAN if any(math.isnan(value) for value in image) else math.fsum(image) / len(image)
        for image in zip(*values, strict=True)
    ]


def pooled_standard_error(values: Sequence[Sequence[float]]) -> float:
    """Of all values of images that every explainer has, as if they were independent."""
    pool = [value for image in zip(*values, strict=True) if not any(map(math.isnan, image)) for value in image]
    mean = math.fsum(pool) / len(pool)
    variance = math.fsum((value - mean) ** 2 for value in pool) / (len(pool) - 1)
    return math.sqrt(variance / len(pool))


def paired_t_test(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Student's t of the differences; both tails of its density by Simpson's rule."""
    differences = [a - b for a, b in zip(one, other, strict=True)]
    n = len(differences)
    mean = math.fsum(differences) / n
    sem = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1) / n)
    t = mean / sem
    freedom = n - 1
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    # from 0 to |t|: the rest of one half is a tail
    steps = 20_000
    width = abs(t) / steps
    inside = 0.0
    for step in range(steps + 1):
        weight = 1 if step in (0, steps) else 4 if step % 2 else 2
        inside += weight * scale * (1 + (step * width) ** 2 / freedom) ** (-(freedom + 1) / 2)
    return t, 1 - 2 * inside * width / 3


def pearson_over_models(one: Sequence[float], other: Sequence[float]) -> float:
    """Covariance over both standard deviations."""
    mean_one, mean_other = math.fsum(one) / len(one), math.fsum(other) / len(other)
    covariance = math.fsum((a - mean_one) * (b - mean_other) for a, b in zip(one, other, strict=True))
    squares = [
        math.fsum((value - mean) ** 2 for value in values) for values, mean in ((one, mean_one), (other, mean_other))
    ]
    return covariance / math.sqrt(squares[0] * squares[1])


def quantile(values: Sequence[float], probability: float) -> float:
    """Linear between order statistics."""
    ordered = sorted(values)
    position = probability * (len(ordered) - 1)
    lower = math.floor(position)
    upper = min(lower + 1, len(ordered) - 1)
    return ordered[lower] + (ordered[upper] - ordered[lower]) * (position - lower)


def adaptive_curve(
    curve: Sequence[float], tolerance: float, *, coarse: int = 24, errors: float = 2.0, bulk: float = 0.5
) -> tuple[list[int], float, float, float]:
    """Measured steps of one curve, its interpolated area, two standard errors of it, and the bound if it is monotone
    between measured steps."""
    steps = len(curve) - 1
    first = min(coarse, steps)
    measured = [i * steps // first for i in range(first + 1)]
    residual: dict[int, float] = {}

    def line(left: int, right: int, at: int) -> float:
        return curve[left] + (curve[right] - curve[left]) * (at - left) / (right - left)

    for left, at, right in zip(measured, measured[1:], measured[2:], strict=False):
        residual[at] = curve[at] - line(left, right, at)
    while True:
        pairs = list(itertools.pairwise(measured))
        error = [errors * size / steps for size in _interval_errors(pairs, residual)]
        total = math.fsum(e**2 for e in error)
        gained, added = 0.0, []
        for i in sorted(range(len(pairs)), key=lambda i: -error[i]):
            if gained >= total - tolerance**2:
                break
            gained += bulk * error[i] ** 2
            if error[i] > 0 and error[i] >= bulk * max(error):
                added.append(pairs[i])
        if not added:
            break
        for left, right in added:
            residual[(left + right) // 2] = curve[(left + right) // 2] - line(left, right, (left + right) // 2)
        measured = sorted([*measured, *((left + right) // 2 for left, right in added)])
    area = math.fsum((curve[left] + curve[right]) / 2 * (right - left) for left, right in pairs) / steps
    bound = math.fsum((right - left - 1) * abs(curve[right] - curve[left]) for left, right in pairs) / (2 * steps)
    return measured, area, math.sqrt(total), bound


def _interval_errors(pairs: Sequence[tuple[int, int]], residual: dict[int, float]) -> list[float]:
    """Unmeasured steps of each interval times the root mean square of residuals at its ends, smoothed."""
    squares = []
    for pair in pairs:
        known = [residual[end] ** 2 for end in pair if end in residual]
        squares.append(math.fsum(known) / len(known) if known else 0.0)
    last = len(pairs) - 1
    return [
        (right - left - 1) * math.sqrt((squares[max(i - 1, 0)] + 2 * squares[i] + squares[min(i + 1, last)]) / 4)
        for i, (left, right) in enumerate(pairs)
    ]


def box_plot(values: list[float]) -> tuple[float, ...]:
    """Lower whisker, quartiles by linear interpolation, upper whisker; whiskers reach 1.5 widths of the box at most."""
    ordered = sorted(values)

    def quantile(share: float) -> float:
        place = share * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    q1, median, q3 = quantile(0.25), quantile(0.5), quantile(0.75)
    reach = 1.5 * (q3 - q1)
    lowest = next(value for value in ordered if value >= q1 - reach)
    highest = next(value for value in reversed(ordered) if value <= q3 + reach)
    return min(lowest, q1), q1, median, q3, max(highest, q3)


def macro_f1(predicted: Sequence[int], labels: Sequence[int]) -> float:
    """Mean over the classes that occur of the harmonic mean of precision and recall; 0 where nothing is right."""
    scores = []
    for one in sorted({*predicted, *labels}):
        pairs = list(zip(predicted, labels, strict=True))
        right = sum(p == one and label == one for p, label in pairs)
        if not right:
            scores.append(0.0)
            continue
        precision = right / sum(p == one for p, _ in pairs)
        recall = right / sum(label == one for _, label in pairs)
        scores.append(2 * precision * recall / (precision + recall))
    return sum(scores) / len(scores)


def mean_correlations(maps: list[list[float]]) -> list[float]:
    """Mean Pearson correlation of each map with all others."""
    return [
        sum(pearson(one, other) for position, other in enumerate(maps) if position != own) / (len(maps) - 1)
        for own, one in enumerate(maps)
    ]
