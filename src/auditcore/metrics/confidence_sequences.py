"""Confidence sequences: bounds of a mean that hold after every image, no matter how often they are checked.

The mean is that of a finite batch, or that of the population of which the batch is a random sample.

The images are drawn without replacement, in uniformly random order. The claim "the mean is at most m" is tested by
betting against it. After each image the capital is multiplied by 1 + f (x/m' - 1). Here x is the image's value minus
the lowest possible value, m' is the expected next value given the values already seen if the mean were m, and f is the
share of the capital that is bet. If the mean is m or less, the capital does not grow on average, so the probability of
ever reaching 1 / alpha times the stake is at most alpha (Ville's inequality). Several gamblers with different shares
split the stake; their joint capital is the evidence. It falls as the claim rises, so the refuted claims end at one
bound.

Source: Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting": sampling without
replacement (section 5), diversified bets of constant share (appendix B).

Without a finite batch, m' is m: the values already seen do not change what is expected of the next one.

Images without a value are not part of the mean. How many images have a value is unknown before the end. But the mean of
the values is above m exactly if the mean over all images is, with m in place of each missing value. So missing values
are replaced by m.
"""

from __future__ import annotations

import math

import numpy as np

from auditcore.errors import ShapeError

SHARES = (0.95, 0.45, 0.2, 0.08)
"""Shares of their capital that the gamblers bet. Compared with six halving shares, a single plug-in bet and an adaptive
one (the paper's empirical Bernstein and approximate GRAPA), on beta and Bernoulli populations of 50 to 1000 images and
thresholds 0.02 to 0.4 away, these decided about as early as the best of the others, or earlier."""

OUT_OF_RANGE = 1e-4
"""How far a value may lie beyond its bound, because values are printed with five digits; it is clipped to the bound."""

SAME = 1e-12
"""Relative difference of two sums that can be rounding."""

BISECTIONS = 40
"""Halvings of the range that contains a bound: to a trillionth of it, while reports print seven digits."""


def log_capital(values: np.ndarray, *, population: int | None, claim: float, lowest: float) -> np.ndarray:
    """Compute the evidence against "the mean is at most `claim`" after each image.

    Args:
        values: (..., n) values in random order; NaN for an image without a value.
        population: Number of images of the batch whose mean is tested, at least n; None for the mean of the population
            of which the images are a random sample.
        claim: The mean that is tested.
        lowest: Lower bound of the values; they need no upper bound.

    Returns:
        (..., n) logarithm of the capital of gamblers who started with 1; infinite once the values seen so far make the
        claim impossible.

    Raises:
        ShapeError: There are more values than images, or a value is below `lowest`.
    """
    seen = values.shape[-1]
    if population is not None and seen > population:
        raise ShapeError(expected=f"at most {population} values", actual=seen)
    present = ~np.isnan(values)
    above = np.where(present, values - lowest, 0.0)
    if above.size and above.min() < -OUT_OF_RANGE * max(1.0, abs(lowest)):
        raise ShapeError(expected=f"values of at least {lowest:g}", actual=float(above.min() + lowest))
    above = np.maximum(above, 0.0)
    doubted = claim - lowest
    total, known = np.cumsum(above, axis=-1), np.cumsum(present, axis=-1)
    outcome = np.where(present, above, doubted)
    largest = max(abs(doubted), float(above.max(initial=0.0)))
    if population is None:
        rounding = SAME * seen * largest
        # a mean equal to the lowest value allows no other value, and no mean is below it
        impossible = total > rounding if abs(doubted) <= SAME * largest else np.full(above.shape, doubted < 0)
        ratio = outcome / doubted if doubted > SAME * largest else np.ones_like(outcome)
    else:
        left = population - np.arange(seen)
        # sum of the values that are left, before and after each image, if the mean is the claim
        after = (population - np.arange(1, seen + 1) + known) * doubted - total
        before = np.concatenate([np.full((*values.shape[:-1], 1), population * doubted), after[..., :-1]], axis=-1)
        expected = before / left
        rounding = SAME * population * largest
        impossible = after < -rounding
        # where the values left must sum to 0, the first positive value refutes the claim
        ratio = np.divide(outcome, expected, out=np.ones_like(outcome), where=before > rounding)
    bets = np.stack([np.cumsum(np.log1p(share * (ratio - 1)), axis=-1) for share in SHARES])
    capital: np.ndarray = np.logaddexp.reduce(bets, axis=0) - math.log(len(SHARES))
    refuted = np.logical_or.accumulate(impossible, axis=-1)
    return np.where(refuted, np.inf, capital)


def first_refuted(
    values: np.ndarray, *, population: int | None, claim: float, lowest: float, alpha: float
) -> int | None:
    """Return the number of images after which "the mean is at most `claim`" is refuted, or None if it is not.

    Args:
        values: (n,) values in random order; NaN for an image without a value.
        population: As for `log_capital`.
        claim: The mean that is tested.
        lowest: Lower bound of the values.
        alpha: Probability of ever refuting a true claim.

    Raises:
        ShapeError: As for `log_capital`.
    """
    reached = log_capital(values, population=population, claim=claim, lowest=lowest) >= -math.log(alpha)
    return int(reached.argmax()) + 1 if reached.any() else None


def lower_bound(values: np.ndarray, *, population: int | None, lowest: float, alpha: float) -> float:
    """Compute a lower bound of the mean: the highest refuted claim "the mean is at most m", or `lowest` if none is.

    The bound never falls as values are added. The bound of a batch equals the mean once every image has been seen.

    Args:
        values: (n,) values in random order; NaN for an image without a value.
        population: As for `log_capital`.
        lowest: Lower bound of the values.
        alpha: Probability that the bound is ever above the mean.

    Raises:
        ShapeError: As for `log_capital`.
    """

    def refuted(claim: float) -> bool:
        found = first_refuted(values, population=population, claim=claim, lowest=lowest, alpha=alpha)
        return found is not None

    # a claim at the largest value seen cannot be refuted: every bet against it has lost
    low, high = lowest, max(lowest, float(np.nanmax(values, initial=lowest)))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if refuted(middle):
            low = middle
        else:
            high = middle
    return low


def upper_bound(values: np.ndarray, *, population: int | None, highest: float, alpha: float) -> float:
    """Compute an upper bound of the mean: the lowest refuted claim "the mean is at least m", or `highest` if none is.

    Args:
        values: (n,) values in random order; NaN for an image without a value.
        population: As for `log_capital`.
        highest: Upper bound of the values; they need no lower bound.
        alpha: Probability that the bound is ever below the mean.

    Raises:
        ShapeError: As for `log_capital`.
    """
    return -lower_bound(-values, population=population, lowest=-highest, alpha=alpha)
