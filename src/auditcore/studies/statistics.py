"""Means over seeds, and differences paired by seed; numpy, no tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from auditcore.contracts.studies.report import SeedDifference
from auditcore.metrics.paired_test import LEAST_PAIRS, paired_t_test
from auditcore.metrics.statistics import CONFIDENCE

NO_PAIR = "there is no seed on which both have a value"
ONE_PAIR = "a single seed has no spread"
EQUAL_DIFFERENCES = "the difference is the same for every seed, so it has no spread"


class SeedSummary(NamedTuple):
    """Mean over seeds.

    Attributes:
        n: Seeds with a value.
        mean: None without any.
        sem: Standard error over seeds; None below two.
        ci: 95 % confidence interval; None below two.
    """

    n: int
    mean: float | None
    sem: float | None
    ci: tuple[float, float] | None


def over_seeds(values: Sequence[float | None]) -> SeedSummary:
    """Mean over seeds with an interval by Student's t.

    Seeds are few and their means are nearly normal, since each is a mean over images.

    Args:
        values: One per seed; None where undefined.

    Source: Student 1908; Li et al. 2021 print such intervals over five seeds.
    """
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if not len(known):
        return SeedSummary(0, None, None, None)
    mean = math.fsum(known) / len(known)
    if len(known) < LEAST_PAIRS:
        return SeedSummary(1, mean, None, None)
    sem = float(known.std(ddof=1) / math.sqrt(len(known)))
    reach = float(student.ppf((1 + CONFIDENCE) / 2, len(known) - 1)) * sem
    return SeedSummary(len(known), mean, sem, (mean - reach, mean + reach))


def difference_by_seed(values: Sequence[float | None], baseline: Sequence[float | None]) -> SeedDifference:
    """How values differ from those of the baseline with the same seeds.

    Args:
        values: One per seed; None where undefined.
        baseline: Values of the baseline, in the same order.
    """
    pairs = [(one, other) for one, other in zip(values, baseline, strict=True) if one is not None and other is not None]
    summary = over_seeds([one - other for one, other in pairs])
    if not pairs:
        return SeedDifference(mean=None, ci=None, p_value=None, n=0, reason=NO_PAIR)
    if len(pairs) < LEAST_PAIRS:
        return SeedDifference(mean=summary.mean, ci=None, p_value=None, n=1, reason=ONE_PAIR)
    ones, others = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    p_value = paired_t_test(ones, others).p_value
    undefined = math.isnan(p_value)
    return SeedDifference(
        mean=summary.mean,
        ci=summary.ci,
        p_value=None if undefined else p_value,
        n=len(pairs),
        reason=EQUAL_DIFFERENCES if undefined else None,
    )
