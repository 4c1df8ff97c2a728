"""Confidence sequences: bounds of a mean that hold after every image, however often one looks.

The mean is that of a finite batch, or that of all images like those seen, of which the batch is a random sample.

The images are drawn without replacement, in an order that is uniformly random. Whoever believes that their mean is
above a claim m may bet on it: after each image the capital is multiplied by 1 + f (x/m' - 1), where x is the image's
value above its lowest possible one, m' what the next value would be on average if the mean were m, given those already
seen, and f a share of the capital. If the mean is m or less, no such gambler gets richer on average, so that the
probability of ever reaching 1 / alpha times the stake is at most alpha (Ville's inequality). Several gamblers with
different shares split the stake; their joint capital is the evidence. It falls as the claim rises, so that the claims
refuted so far end at one bound.

Source: Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting": sampling without
replacement (section 5), diversified bets of constant share (appendix B).

Without a finite batch, m' is m itself: what was seen before says nothing of the next value.

An image without a value does not count in the mean. How many will have one is unknown before the end, but the mean over
those that have one is above m exactly if the mean over all is, when m stands in for each missing value. So it does.
"""

from __future__ import annotations

import math

import numpy as np

from auditcore.errors import ShapeError

SHARES = (0.95, 0.45, 0.2, 0.08)
"""Shares of their capital that the gamblers bet. Against six halving shares, a single plug-in bet and an adaptive one
(the paper's empirical Bernstein and approximate GRAPA), over beta and Bernoulli populations of 50 to 1000 images and
thresholds 0.02 to 0.4 away, these decided about as early as the best of the others, or earlier."""

OUT_OF_RANGE = 1e-4
"""How far beyond its bound a value may lie, as values are printed with five digits; it counts as the bound."""

SAME = 1e-12
"""Relative difference of two sums that is no more than their rounding."""

BISECTIONS = 40
"""Halvings of the range in which a bound is sought: to a trillionth of it, where reports print seven digits."""


def log_capital(values: np.ndarray, *, population: int | None, claim: float, lowest: float) -> np.ndarray:
    """Evidence against `the mean is at most claim`, after each image.

    Args:
        values: (..., n) values in the random order; NaN where an image has none.
        population: Images of the batch whose mean it is, at least n; None for the mean of all images like these.
        claim: What is doubted.
        lowest: No value lies below; there need be no highest one.

    Returns:
        (..., n) logarithm of the capital of gamblers who began with 1; infinite once the values seen so far rule the
        claim out by themselves, whatever the rest may be.

    Raises:
        ShapeError: There are more values than images, or one lies below the lowest.
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
        # a mean at the lowest value allows no other value, and none lies below
        impossible = total > rounding if abs(doubted) <= SAME * largest else np.full(above.shape, doubted < 0)
        ratio = outcome / doubted if doubted > SAME * largest else np.ones_like(outcome)
    else:
        left = population - np.arange(seen)
        # what the values may still add up to, before and after each image, if the mean is the claim
        after = (population - np.arange(1, seen + 1) + known) * doubted - total
        before = np.concatenate([np.full((*values.shape[:-1], 1), population * doubted), after[..., :-1]], axis=-1)
        expected = before / left
        rounding = SAME * population * largest
        impossible = after < -rounding
        # where nothing more is expected, the first positive value refutes the claim by itself
        ratio = np.divide(outcome, expected, out=np.ones_like(outcome), where=before > rounding)
    bets = np.stack([np.cumsum(np.log1p(share * (ratio - 1)), axis=-1) for share in SHARES])
    capital: np.ndarray = np.logaddexp.reduce(bets, axis=0) - math.log(len(SHARES))
    refuted = np.logical_or.accumulate(impossible, axis=-1)
    return np.where(refuted, np.inf, capital)


def first_refuted(
    values: np.ndarray, *, population: int | None, claim: float, lowest: float, alpha: float
) -> int | None:
    """Images after which `the mean is at most claim` is refuted at error rate alpha; None if it is not.

    Args:
        values: (n,) values in the random order; NaN where an image has none.
        population: Images of the batch whose mean it is; None for the mean of all images like these.
        claim: What is doubted.
        lowest: No value lies below.
        alpha: Probability of ever refuting a claim that is true.

    Raises:
        ShapeError: As for `log_capital`.
    """
    reached = log_capital(values, population=population, claim=claim, lowest=lowest) >= -math.log(alpha)
    return int(reached.argmax()) + 1 if reached.any() else None


def lower_bound(values: np.ndarray, *, population: int | None, lowest: float, alpha: float) -> float:
    """The highest claim `the mean is at most m` that is refuted by now; `lowest` if none is.

    Never falls as values are added. The bound of a batch is the mean itself once every image is seen.

    Args:
        values: (n,) values in the random order; NaN where an image has none.
        population: Images of the batch whose mean it is; None for the mean of all images like these.
        lowest: No value lies below.
        alpha: Probability that the bound is ever above the mean.

    Raises:
        ShapeError: As for `log_capital`.
    """

    def refuted(claim: float) -> bool:
        found = first_refuted(values, population=population, claim=claim, lowest=lowest, alpha=alpha)
        return found is not None

    # a gambler who doubts the largest value seen has only lost
    low, high = lowest, max(lowest, float(np.nanmax(values, initial=lowest)))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if refuted(middle):
            low = middle
        else:
            high = middle
    return low


def upper_bound(values: np.ndarray, *, population: int | None, highest: float, alpha: float) -> float:
    """The lowest claim `the mean is at least m` that is refuted by now; `highest` if none is.

    Args:
        values: (n,) values in the random order; NaN where an image has none.
        population: Images of the batch whose mean it is; None for the mean of all images like these.
        highest: No value lies above; there need be no lowest one.
        alpha: Probability that the bound is ever below the mean.

    Raises:
        ShapeError: As for `log_capital`.
    """
    return -lower_bound(-values, population=population, lowest=-highest, alpha=alpha)
