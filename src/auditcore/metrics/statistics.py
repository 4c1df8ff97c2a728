"""Means over images, with their spread and bootstrap confidence intervals; numpy, no tensors.

The resamples of a row depend on the generator, the number of images and how many of them have a
value, never on the other rows: adding an explainer to a plan changes no interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri

RESAMPLES = 10_000
CONFIDENCE = 0.95
RESAMPLES_AT_ONCE = 1000
"""Bounds memory: 1000 resamples of 1000 images are 8 MB of weights."""

SAME_VALUE = 1e-12
"""Values closer than this, relative to the row's largest, are equal; sums in another order differ by about 1e-16."""


class Summary(NamedTuple):
    """What is known of the mean of a metric.

    Attributes:
        n: Images with a value.
        mean: null without any.
        std: Sample standard deviation (n - 1); null below two values.
        sem: std / sqrt(n); null below two values.
        ci: 95 % BCa bootstrap interval of the mean; null below two values.
    """

    n: int
    mean: float | None
    std: float | None
    sem: float | None
    ci: tuple[float, float] | None


class PointwiseInterval(NamedTuple):
    """Mean curve and the bounds of its pointwise 95 % interval; NaN where undefined.

    Attributes:
        mean: NaN where no image has a value.
        lo: NaN below two values.
        hi: NaN below two values.
    """

    mean: Float[np.ndarray, " point"]
    lo: Float[np.ndarray, " point"]
    hi: Float[np.ndarray, " point"]


def summarize(
    values: Float[np.ndarray, "image row"],
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> tuple[Summary, ...]:
    """Mean, spread and BCa bootstrap interval of every row over images.

    Bias-corrected and accelerated, because per-image scores are skewed and few: the bias correction is
    the share of resampled means below the mean (ties half), the acceleration the jackknife's skewness.

    Args:
        values: One column a row of the report, one line an image; NaN where undefined.
        generator: Source of the resamples.
        resamples: Number of bootstrap resamples.

    Returns:
        One summary a row. The interval of a row whose values are all equal is that value twice.

    Source: Efron 1987; the same formula as `scipy.stats.bootstrap(method="BCa")`.
    """
    table = np.asarray(values, dtype=np.float64)
    present = ~np.isnan(table)
    counts = present.sum(axis=0)
    summaries = [Summary(0, None, None, None, None)] * table.shape[1]
    for n, rows, sample, means in _resampled_means(table, present, generator, resamples):
        intervals = zip(*_bca(sample, means), strict=True)
        for row, column, (low, high) in zip(rows, sample.T, intervals, strict=True):
            std = float(column.std(ddof=1))
            summaries[row] = Summary(n, float(column.mean()), std, std / float(np.sqrt(n)), (float(low), float(high)))
    for row in np.flatnonzero(counts == 1):
        summaries[row] = Summary(1, float(table[present[:, row], row][0]), None, None, None)
    return tuple(summaries)


def pointwise_ci(
    values: Float[np.ndarray, "image point"],
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> PointwiseInterval:
    """Mean curve with a pointwise percentile bootstrap interval.

    Percentile, not BCa: a band is drawn, never gated, and points at the identity are constant.

    Args:
        values: One curve an image; NaN where undefined.
        generator: Source of the resamples.
        resamples: Number of bootstrap resamples.
    """
    table = np.asarray(values, dtype=np.float64)
    present = ~np.isnan(table)
    counts = present.sum(axis=0)
    total = np.where(present, table, 0).sum(axis=0)
    mean = np.divide(total, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    low, high = np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    tail = (1 - CONFIDENCE) / 2
    for _, rows, _, means in _resampled_means(table, present, generator, resamples):
        low[rows], high[rows] = np.quantile(means, (tail, 1 - tail), axis=0)
    return PointwiseInterval(mean, low, high)


def _resampled_means(
    table: np.ndarray, present: np.ndarray, generator: np.random.Generator, resamples: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Bootstrap means of all rows with the same number of values, at least two.

    Yields:
        The number of values n, the rows that have so many, their values (n, rows) and the means of
        the resamples (resamples, rows).
    """
    counts = present.sum(axis=0)
    # uniform numbers, not indices: the same ones serve every n, so that no row depends on another's gaps
    lottery = [
        generator.random((min(RESAMPLES_AT_ONCE, resamples - start), len(table)))
        for start in range(0, resamples, RESAMPLES_AT_ONCE)
    ]
    for n in np.unique(counts[counts > 1]).tolist():
        rows = np.flatnonzero(counts == n)
        sample = table.T[rows][present.T[rows]].reshape(len(rows), n).T
        means = np.concatenate([_weights(uniform[:, :n]) @ sample for uniform in lottery]) / n
        yield n, rows, sample, means


def _weights(uniform: np.ndarray) -> np.ndarray:
    """How often each of n values is in each resample, from one uniform number a draw."""
    resamples, n = uniform.shape
    drawn = (uniform * n).astype(np.int64) + n * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)


def _bca(sample: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of the BCa intervals of the mean, one a row."""
    n = len(sample)
    estimate = sample.sum(axis=0) / n
    tolerance = SAME_VALUE * np.abs(sample).max(axis=0)
    below = (means < estimate - tolerance).mean(axis=0)
    tied = (np.abs(means - estimate) <= tolerance).mean(axis=0)
    # the share is kept off 0 and 1, where the normal quantile is infinite
    bias = ndtri(np.clip(below + tied / 2, 0.5 / len(means), 1 - 0.5 / len(means)))
    constant = np.ptp(sample, axis=0) <= tolerance
    # leaving value i out moves the mean by (x_i - mean) / (n - 1); common factors cancel, and dividing by the range
    # keeps powers of tiny values from vanishing
    influence = (sample - estimate) / np.where(constant, 1, np.ptp(sample, axis=0))
    scale = (influence**2).sum(axis=0) ** 1.5
    acceleration = np.divide((influence**3).sum(axis=0), 6 * scale, out=np.zeros_like(scale), where=~constant)
    means = np.sort(means, axis=0)
    ends = []
    for tail in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2):
        shifted = bias + ndtri(tail)
        probability = ndtr(bias + shifted / (1 - acceleration * shifted))
        ends.append(np.where(constant, estimate, _quantiles_of_sorted(means, probability)))
    return ends[0], ends[1]


def _quantiles_of_sorted(columns: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """One quantile a column, linear between order statistics as in `numpy.quantile`."""
    position = probability * (len(columns) - 1)
    lower = np.floor(position).astype(np.int64)
    upper = np.minimum(lower + 1, len(columns) - 1)
    column = np.arange(columns.shape[1])
    left, right = columns[lower, column], columns[upper, column]
    interpolated: np.ndarray = left + (right - left) * (position - lower)
    return interpolated
