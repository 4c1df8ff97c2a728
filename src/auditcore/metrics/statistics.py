"""Means over distinct images, with their spread and confidence intervals; numpy, no tensors.

The resamples of a row depend only on the generator, the number of distinct images and how many of them have a value,
never on other rows: adding an explainer to a plan changes no interval.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import betaincinv, stdtrit

from auditcore.contracts.metric import UNBOUNDED, Bounds
from auditcore.errors import ShapeError
from auditcore.metrics.confidence_sequences import OUT_OF_RANGE

RESAMPLES = 10_000
CONFIDENCE = 0.95
RESAMPLES_AT_ONCE = 1000
"""Limits memory: 1000 resamples of 1000 images are 8 MB of weights."""

LEAST_FOR_BOOTSTRAP = 5
"""With fewer values, more than one resample in 100 consists of a single image and has no spread to divide by."""

STRETCH = 2.0
"""Largest distance of a bootstrap-t interval's end from the mean, relative to Student's t. Without a limit,
near-constant resamples make the interval endless. With it, the coverage for 30 exponential values is the same, 94.5 %,
and for 8 values it is 93.1 %, with a mean width of 1.2 instead of 1.5 times Student's t. See
`tests/benchmarks/coverage.py`."""

TIED_SHARE = 0.5
"""From this share of equal values on, a row says too little about unseen values, and Gaffke's interval is used."""

SMALL_SAMPLE = 30
"""From this many values on, the intervals in `docs/intervals.md` cover 94 % or more, on log-normal data 92.5 %. For 8
values, they cover 93 % or more, but 88.9 % on log-normal data and 91.2 % on a beta distribution near 0."""

SAME_VALUE = 1e-12
"""Values closer than this, relative to the row's largest, count as equal; a different order of additions changes sums
by about 1e-16."""

INTERVAL_RULE = (
    f"{CONFIDENCE:.0%} intervals of the mean over distinct images: bootstrap-t, {RESAMPLES} resamples, reaching at "
    f"most {STRETCH:g} times as far as Student's t; Student's t below {LEAST_FOR_BOOTSTRAP} values. Where at least "
    "half of the values are equal: Gaffke's interval between the bounds of the metric, which for values of 0 and 1 is "
    "Clopper-Pearson. Ends stay within the metric's range. Bands of curves: percentile bootstrap over distinct images."
)
"""The rule in words, for the manifest of a report."""

NO_VALUE = "no image has a value"
ONE_VALUE = "a single image has no spread"


class Summary(NamedTuple):
    """The mean of a metric, with its spread and confidence interval.

    Attributes:
        n: Number of distinct images with a value.
        mean: None without values.
        std: Sample standard deviation (n - 1); None below two values.
        sem: std / sqrt(n); None below two values.
        ci: 95 % confidence interval of the mean; None if there is none.
        ci_reason: Why there is no interval; None if there is one.
    """

    n: int
    mean: float | None
    std: float | None
    sem: float | None
    ci: tuple[float, float] | None
    ci_reason: str | None = None


class PointwiseInterval(NamedTuple):
    """Mean curve and the bounds of its pointwise 95 % interval; NaN where undefined.

    Attributes:
        mean: Mean; NaN where no image has a value.
        lo: Lower bound; NaN below two values.
        hi: Upper bound; NaN below two values.
    """

    mean: Float[np.ndarray, " point"]
    lo: Float[np.ndarray, " point"]
    hi: Float[np.ndarray, " point"]


def distinct(values: Float[np.ndarray, "image row"], images: Sequence[Hashable]) -> Float[np.ndarray, "distinct row"]:
    """Average the values of copies of an image, so that every distinct image counts once.

    Args:
        values: One column per row of the report; NaN where undefined.
        images: Identifier of each image, such as its digest.

    Returns:
        One line per distinct image, in the order of first appearance: the mean of the copies with a value, NaN if none
        has one.

    Raises:
        ShapeError: The number of identifiers is not the number of values.
    """
    table = np.asarray(values, dtype=np.float64)
    if len(images) != len(table):
        raise ShapeError(expected=f"{len(table)} images", actual=len(images))
    numbers = {image: number for number, image in enumerate(dict.fromkeys(images))}
    if len(numbers) == len(table):
        return table
    cluster = np.array([numbers[image] for image in images])
    present = ~np.isnan(table)
    shape = (len(numbers), table.shape[1])
    total, count = np.zeros(shape), np.zeros(shape)
    np.add.at(total, cluster, np.where(present, table, 0.0))
    np.add.at(count, cluster, present)
    mean: np.ndarray = np.divide(total, count, out=np.full(shape, np.nan), where=count > 0)
    return mean


def summarize(
    values: Float[np.ndarray, "image row"],
    *,
    generator: np.random.Generator,
    bounds: Sequence[Bounds] | None = None,
    resamples: int = RESAMPLES,
) -> tuple[Summary, ...]:
    """Compute mean, spread and 95 % confidence interval of every row over distinct images.

    - Bootstrap-t by default, because values are skewed and few. It assumes that the studentized error of the sample
      mean has the distribution of the studentized errors of resample means around the sample mean.
    - Student's t below `LEAST_FOR_BOOTSTRAP` values.
    - Gaffke's interval if at least half of the values are equal, or all lie at the bounds. Such a row says little about
      unseen values, so one more value at the bound is added, and all values get random weights that sum to 1. For
      values of 0 and 1 in [0, 1] this is Clopper and Pearson's interval. For n equal values v it reaches from v toward
      each bound by the distance times 1 - .025^(1/n). Where the metric has no bound, the row's own extreme is used as
      the bound, or the end of bootstrap-t if that is farther away.

    Args:
        values: One column per row of the report, one line per distinct image; NaN where undefined.
        generator: Source of the resamples.
        bounds: Range of each row's metric; unbounded if None. A bound that a value violates is ignored.
        resamples: Number of bootstrap resamples.

    Returns:
        One summary per row. Ends stay within the bounds. If all values are equal and the metric lacks a bound, there is
        no interval: nothing limits the values of unseen images.

    Raises:
        ShapeError: The number of bounds is not the number of rows.

    Source: Efron 1981, "Nonparametric standard errors and confidence intervals", section 9; Hall 1988; Clopper &
    Pearson 1934; Gaffke 2005, as in Learned-Miller & Thomas 2019, "A new confidence interval for the mean of a bounded
    random variable".
    """
    table = np.asarray(values, dtype=np.float64)
    limits = [UNBOUNDED] * table.shape[1] if bounds is None else list(bounds)
    if len(limits) != table.shape[1]:
        raise ShapeError(expected=f"{table.shape[1]} pairs of bounds", actual=len(limits))
    present = ~np.isnan(table)
    counts = present.sum(axis=0)
    lottery = _lottery(generator, len(table), resamples)
    unseen = generator.random(resamples)
    summaries = [Summary(0, None, None, None, None, NO_VALUE)] * table.shape[1]
    for n, rows, sample in _rows_by_count(table, present):
        mean = sample.mean(axis=0)
        centered = sample - mean
        # equal values may differ from their mean by rounding, which is not spread
        centered[np.abs(centered) <= SAME_VALUE * np.abs(sample).max(axis=0)] = 0
        std = np.sqrt((centered**2).sum(axis=0) / (n - 1))
        sem = std / np.sqrt(n)
        low, high = _ends_kept([limits[row] for row in rows], sample)
        below, above = _reach(centered, sem, lottery)
        ends = _with_ties(sample, (mean - below, mean + above), (low, high), lottery, unseen)
        # a value may exceed the bound by rounding, and so may the mean
        within = np.clip(ends, np.minimum(low, mean), np.maximum(high, mean))
        numbers = np.stack([mean, std, sem, *within], axis=1)
        endless = (std == 0) & ~(np.isfinite(low) & np.isfinite(high))
        for row, missing, (center, spread, error, first, last) in zip(rows, endless, numbers.tolist(), strict=True):
            ci = None if missing else (first, last)
            summaries[row] = Summary(n, center, spread, error, ci, _why_endless(n, limits[row]) if missing else None)
    for row in np.flatnonzero(counts == 1):
        summaries[row] = Summary(1, float(table[present[:, row], row][0]), None, None, None, ONE_VALUE)
    return tuple(summaries)


def pointwise_ci(
    values: Float[np.ndarray, "image point"],
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> PointwiseInterval:
    """Compute the mean curve with a pointwise percentile bootstrap interval.

    Percentile, not bootstrap-t: a band is only drawn, never used in a verdict, and many of its points are nearly
    constant.

    Args:
        values: One curve per distinct image; NaN where undefined.
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


def _why_endless(n: int, bounds: Bounds) -> str:
    missing = {(True, True): "range", (True, False): "lower bound", (False, True): "upper bound"}
    side = missing.get((bounds[0] is None, bounds[1] is None), "bound that its values keep")
    return f"all {n} values are equal and the metric has no {side}, so nothing limits the values that no image showed"


def _ends_kept(bounds: Sequence[Bounds], sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest possible value of each row; infinite without a bound or if a value violates it."""
    low = np.array([-np.inf if low is None else low for low, _ in bounds])
    high = np.array([np.inf if high is None else high for _, high in bounds])
    with np.errstate(invalid="ignore"):
        broken_low = sample.min(axis=0) < low - OUT_OF_RANGE * np.maximum(1.0, np.abs(low))
        broken_high = sample.max(axis=0) > high + OUT_OF_RANGE * np.maximum(1.0, np.abs(high))
    return np.where(broken_low, -np.inf, low), np.where(broken_high, np.inf, high)


def _with_ties(
    sample: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray],
    bounds: tuple[np.ndarray, np.ndarray],
    lottery: Sequence[np.ndarray],
    unseen: np.ndarray,
) -> np.ndarray:
    """Return the ends (2, rows), with Gaffke's interval for tied rows and rows whose values all lie at the bounds."""
    found = np.stack(ends)
    tied = _is_tied(sample) | ((sample == bounds[0]) | (sample == bounds[1])).all(axis=0)
    if not tied.any():
        return found
    values = sample[:, tied]
    for end, sign in ((0, -1.0), (1, 1.0)):
        # both ends are computed as upper ends, of the values or of the negated values
        limit, plain = sign * bounds[end][tied], sign * found[end][tied]
        bounded = np.isfinite(limit)
        highest = np.where(bounded, limit, (sign * values).max(axis=0))
        reached = _gaffke(sign * values, highest, lottery, unseen)
        found[end][tied] = sign * np.where(bounded, reached, np.maximum(reached, plain))
    return found


def _is_tied(sample: Float[np.ndarray, "value row"]) -> Bool[np.ndarray, " row"]:
    """Return whether one value makes up at least `TIED_SHARE` of each row."""
    n = len(sample)
    ordered = np.sort(sample, axis=0)
    # values at this distance in a sorted row are the ends of a run of at least two and at least half of the values
    distance = max(2, int(np.ceil(TIED_SHARE * n))) - 1
    run = ordered[distance:] - ordered[: n - distance] <= SAME_VALUE * np.abs(sample).max(axis=0)
    tied: np.ndarray = run.any(axis=0)
    return tied


def _gaffke(
    sample: Float[np.ndarray, "value row"],
    highest: Float[np.ndarray, " row"],
    lottery: Sequence[np.ndarray],
    unseen: Float[np.ndarray, " resample"],
) -> Float[np.ndarray, " row"]:
    """Compute the upper end of Gaffke's interval.

    It is the 97.5 % quantile of the randomly weighted mean of the values and the bound, with weights that are uniform
    on the simplex. If all values are either at the bound or equal to one other value, the total weight at the bound has
    a beta distribution, and the end is exact.
    """
    n = len(sample)
    same = SAME_VALUE * np.maximum(np.abs(sample).max(axis=0), np.abs(highest))
    at_bound = highest - sample <= same
    count = at_bound.sum(axis=0)
    lowest = sample.min(axis=0)
    exact = (at_bound | (sample - lowest <= same)).all(axis=0)
    tail = (1 - CONFIDENCE) / 2
    # n - count is 0 if every value lies at the bound, which is then the end
    share = np.where(count < n, betaincinv(count + 1.0, np.maximum(n - count, 1), 1 - tail), 0.0)
    ends = np.where(count < n, lowest + (highest - lowest) * share, highest)
    if not exact.all():
        values = np.concatenate([sample, highest[None]])[:, ~exact]
        ends[~exact] = np.quantile(
            np.concatenate([w @ values for w in _random_weights(lottery, unseen, n)]), 1 - tail, 0
        )
    return ends


def _random_weights(lottery: Sequence[np.ndarray], unseen: np.ndarray, n: int) -> Iterator[np.ndarray]:
    """Yield random weights of n values and the bound, uniform on the simplex, (resamples, n + 1), in parts."""
    start = 0
    for uniform in lottery:
        stop = start + len(uniform)
        drawn = -np.log1p(-np.concatenate([uniform[:, :n], unseen[start:stop, None]], axis=1))
        yield drawn / drawn.sum(axis=1, keepdims=True)
        start = stop


def _reach(centered: np.ndarray, sem: np.ndarray, lottery: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Compute how far the intervals reach below and above the mean, one value per row.

    Args:
        centered: Values minus their mean, (n, rows).
        sem: Standard error of each mean.
        lottery: Source of the resamples.
    """
    n = len(centered)
    tail = (1 - CONFIDENCE) / 2
    student = float(stdtrit(n - 1, 1 - tail))
    if n < LEAST_FOR_BOOTSTRAP:
        return student * sem, student * sem
    limit = STRETCH * student
    distances = np.concatenate([_studentized(weights, centered, limit) for weights in _weights(lottery, n)])
    low, high = np.quantile(distances, (tail, 1 - tail), axis=0)
    # resample means far above the sample mean show how far the sample mean may lie above the true mean
    return high * sem, -low * sem


def _studentized(weights: np.ndarray, centered: np.ndarray, limit: float) -> np.ndarray:
    """Compute studentized means of resamples, clipped to the limit, (resamples, rows).

    A resample without spread is placed at the limit, on the side of its mean.
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
    """Group rows by their number of values, at least two.

    Yields:
        The number of values n, the rows with n values, and their values (n, rows).
    """
    counts = present.sum(axis=0)
    for n in np.unique(counts[counts > 1]).tolist():
        rows = np.flatnonzero(counts == n)
        yield n, rows, table.T[rows][present.T[rows]].reshape(len(rows), n).T


def _lottery(generator: np.random.Generator, images: int, resamples: int) -> list[np.ndarray]:
    """Draw one uniform number per draw, not indices: the same numbers serve every n, so rows stay independent."""
    return [
        generator.random((min(RESAMPLES_AT_ONCE, resamples - start), images))
        for start in range(0, resamples, RESAMPLES_AT_ONCE)
    ]


def _weights(lottery: Sequence[np.ndarray], n: int) -> Iterator[np.ndarray]:
    """Yield how often each of n values occurs in each resample, (resamples, n), in parts."""
    for uniform in lottery:
        resamples = len(uniform)
        drawn = (uniform[:, :n] * n).astype(np.int64) + n * np.arange(resamples)[:, None]
        yield np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)
