"""Confidence sequences once more: plain loops over one gambler, one image and one claim at a time, from the paper.

Waudby-Smith & Ramdas 2024: the betting martingale without replacement, K_t(m) = prod of 1 + lambda_i (X_i - m_i) with
m_i = (N m - sum of X_1..X_(i-1)) / (N - i + 1) and a constant share f of the largest bet, lambda_i = f / m_i. Nothing
is shared with the library.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def gambler(
    values: Sequence[float | None], population: int | None, claim: float, lowest: float, share: float
) -> list[float]:
    """Capital after each image of one who bets a constant share on `the mean is above the claim`.

    Without a population, m_i = m: the images are drawn from all images there are (the same paper, section 4).
    """
    capital, wealth, total = [], 1.0, 0.0
    for i, value in enumerate(values):
        expected = claim - lowest
        if population is not None:
            expected = (population * (claim - lowest) - total) / (population - i)
        # an image without a value stands for a mean of exactly the claim
        x = claim - lowest if value is None else value - lowest
        if expected > 0:
            bet = share / expected
            wealth *= 1 + bet * (x - expected)
        total += x
        if population is not None and population * (claim - lowest) - total < -1e-9:
            wealth = math.inf  # the rest would have to be below the lowest value
        capital.append(wealth)
    return capital


def capital(
    values: Sequence[float | None], population: int | None, claim: float, lowest: float, shares: Sequence[float]
) -> list[float]:
    """Capital of gamblers who split a stake of 1 evenly."""
    each = [gambler(values, population, claim, lowest, share) for share in shares]
    return [sum(own) / len(shares) for own in zip(*each, strict=True)]


def lower_bound(
    values: Sequence[float | None],
    population: int | None,
    lowest: float,
    alpha: float,
    shares: Sequence[float],
    grid: int,
) -> float:
    """The last of equidistant claims, from the lowest value up, all of which the capital has refuted at some time."""
    highest = max([lowest, *(value for value in values if value is not None)])
    bound = lowest
    for step in range(1, grid + 1):
        claim = lowest + (highest - lowest) * step / grid
        if max(capital(values, population, claim, lowest, shares), default=0.0) < 1 / alpha:
            break
        bound = claim
    return bound
