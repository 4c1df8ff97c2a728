"""Agreement of several rankings of the same items; numpy, no tensors."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from auditcore.errors import ShapeError

LEAST = 2
"""Smallest number of judges, and of items."""


def kendall_w(scores: Float[np.ndarray, "judge item"]) -> float:
    """Compute Kendall's coefficient of concordance, corrected for ties.

    Args:
        scores: Score of each item by each judge, in any unit; only their order matters. At least two judges and items.

    Returns:
        From 0 (no agreement) to 1 (the same order by every judge); NaN if every judge scores all items the same.

    Raises:
        ShapeError: Fewer than two judges or two items.

    Source: Kendall & Babington Smith 1939; Kendall 1948, "Rank correlation methods", chapter 6, for ties.
    """
    if scores.ndim != LEAST or min(scores.shape) < LEAST:
        raise ShapeError(expected="(judges, items), two or more of each", actual=scores.shape)
    judges, items = scores.shape
    ranks = rankdata(scores, axis=1)
    totals = ranks.sum(axis=0)
    spread = ((totals - totals.mean()) ** 2).sum()
    ties = 0
    for row in ranks:
        _, counts = np.unique(row, return_counts=True)
        ties += int((counts**3 - counts).sum())
    most = judges**2 * (items**3 - items) - judges * ties
    return float(12 * spread / most) if most else math.nan
