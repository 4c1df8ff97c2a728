"""Means over images, with their spread and bootstrap confidence intervals; numpy, no tensors.

The resamples of a row depend on the generator, the number of images and how many of them have a
value, never on the other rows: adding an explainer to a plan changes no interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

RESAMPLES = 10_000
CONFIDENCE = 0.95
RESAMPLES_AT_ONCE = 1000
"""Bounds memory: 1000 resamples of 1000 images are 8 MB of weights."""

LEAST_FOR_BOOTSTRAP = 5
"""Below, more than one resample in 100 draws a single image over and over and has no spread to divide by."""

STRETCH = 2.0
"""How many times as far from the mean as Student's t a bootstrap-t interval may reach. Without a limit, near-constant
resamples make it endless; with it, 30 exponential values are covered as often, 94.5 %, and 8 in 93.1 % at 1.2 times the
mean width of Student's t instead of 1.5 times. See `tests/benchmarks/coverage.py`."""

SMALL_SAMPLE = 30
"""From this many values on, intervals of `tests/benchmarks/coverage.py` cover 94.5 % or more, on log-normal 92.5 %;
of 20 values at least 91.8 %, of 10 at least 88.4 %, of 5 at least 67 %, where shares of images are the worst."""

SAME_VALUE = 1e-12
"""Values closer than this, relative to the row's largest, are equal; sums in another order differ by about 1e-16."""

INTERVAL_RULE = (
    f"{CONFIDENCE:.0%} intervals of the mean: bootstrap-t, {RESAMPLES} resamples, reaching at most {STRETCH:g} times "
    f"as far as Student's t; Student's t below {LEAST_FOR_BOOTSTRAP} values. Bands of curves: percentile bootstrap."
)
"""The rule in words, as the manifest of a report has it."""

IntervalMethod = Literal["bootstrap_t", "student_t"]


def interval_method(n: int) -> IntervalMethod:
    """How the interval of a mean of n values, at least two, is computed."""
    return "bootstrap_t" if n >= LEAST_FOR_BOOTSTRAP else "student_t"


class Summary(NamedTuple):
    """What is known of the mean of a metric.

    Attributes:
        n: Images with a value.
        mean: null without any.
        std: Sample standard deviation (n - 1); null below two values.
        sem: std / sqrt(n); null below two values.
        ci: 95 % confidence interval of the mean; null below two values.
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
    """Mean, spread and 95 % confidence interval of every row over images.

    Bootstrap-t, because per-image scores are skewed and few: as far as the means of resamples lie from the
    sample's, in standard errors of the resample, so far is the sample's taken to lie from the truth, in its
    own standard errors. Student's t where `interval_method` says so.

    Args:
        values: One column a row of the report, one line an image; NaN where undefined.
        generator: Source of the resamples.
        resamples: Number of bootstrap resamples.

    Returns:
        One summary a row. The interval of a row whose values are all equal is that value twice. Intervals are not cut
        to the range of a metric.

    Source: Efron 1981, "Nonparametric standard errors and confidence intervals", section 9; Hall 1988.
    """
    table = np.asarray(values, dtype=np.float64)
    present = ~np.isnan(table)
    counts = present.sum(axis=0)
    lottery = _lottery(generator, len(table), resamples)
    summaries = [Summary(0, None, None, None, None)] * table.shape[1]
    for n, rows, sample in _rows_by_count(table, present):
        mean = sample.mean(axis=0)
        centered = sample - mean
        # equal values may differ from their mean by one rounding, which is no spread
        centered[np.abs(centered) <= SAME_VALUE * np.abs(sample).max(axis=0)] = 0
        std = np.sqrt((centered**2).sum(axis=0) / (n - 1))
        sem = std / np.sqrt(n)
        below, above = _reach(centered, sem, lottery)
        numbers = np.stack([mean, std, sem, mean - below, mean + above], axis=1)
        for row, (center, spread, error, low, high) in zip(rows, numbers.tolist(), strict=True):
            summaries[row] = Summary(n, center, spread, error, (low, high))
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

    Percentile, not bootstrap-t: a band is drawn, never gated, and many of its points are nearly constant.

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
    lottery = _lottery(generator, len(table), resamples)
    for n, rows, sample in _rows_by_count(table, present):
        means = np.concatenate([weights @ sample for weights in _weights(lottery, n)]) / n
        low[rows], high[rows] = np.quantile(means, (tail, 1 - tail), axis=0)
    return PointwiseInterval(mean, low, high)


def _reach(centered: np.ndarray, sem: np.ndarray, lottery: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """How far the intervals of the mean reach below and above it, one a row.

    Args:
        centered: Values less their mean, (n, rows).
        sem: Standard error of each mean.
        lottery: Source of the resamples.
    """
    n = len(centered)
    tail = (1 - CONFIDENCE) / 2
    student = float(stdtrit(n - 1, 1 - tail))
    if interval_method(n) == "student_t":
        return student * sem, student * sem
    limit = STRETCH * student
    distances = np.concatenate([_studentized(weights, centered, limit) for weights in _weights(lottery, n)])
    low, high = np.quantile(distances, (tail, 1 - tail), axis=0)
    # a resample mean far above the sample's says how far the sample's may lie above the truth
    return high * sem, -low * sem


def _studentized(weights: np.ndarray, centered: np.ndarray, limit: float) -> np.ndarray:
    """Means of resamples in standard errors of each resample, within the limit, (resamples, rows).

    A resample without spread lies at the limit, on the side of its mean.
    """
    n = len(centered)
    means = weights @ centered / n
    squares = weights @ centered**2 / n
    variances = squares - means**2
    spread = variances > SAME_VALUE * squares
    errors = np.sqrt(np.where(spread, variances, 1) / (n - 1))
    limited: np.ndarray = np.clip(np.where(spread, means / errors, limit * np.sign(means)), -limit, limit)
    return limited


def _rows_by_count(table: np.ndarray, present: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Rows with the same number of values, at least two, together.

    Yields:
        The number of values n, the rows that have so many, and their values (n, rows).
    """
    counts = present.sum(axis=0)
    for n in np.unique(counts[counts > 1]).tolist():
        rows = np.flatnonzero(counts == n)
        yield n, rows, table.T[rows][present.T[rows]].reshape(len(rows), n).T


def _lottery(generator: np.random.Generator, images: int, resamples: int) -> list[np.ndarray]:
    """One uniform number a draw. Not indices: the same ones serve every n, so that no row depends on another's gaps."""
    return [
        generator.random((min(RESAMPLES_AT_ONCE, resamples - start), images))
        for start in range(0, resamples, RESAMPLES_AT_ONCE)
    ]


def _weights(lottery: Sequence[np.ndarray], n: int) -> Iterator[np.ndarray]:
    """How often each of n values is in each resample, (resamples, n), part by part."""
    for uniform in lottery:
        resamples = len(uniform)
        drawn = (uniform[:, :n] * n).astype(np.int64) + n * np.arange(resamples)[:, None]
        yield np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)
