"""Statistics of the rows of a report; all rows use the same resamples of the images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from auditcore.contracts.metric import Bounds
from auditcore.contracts.report import Curve
from auditcore.contracts.shards import CurveSamples
from auditcore.contracts.significance import VALUE_DIGITS, rounded, significant
from auditcore.metrics.statistics import Summary, distinct, pointwise_ci, summarize

PRINTED_POINTS = 32
"""Points of a curve in a report; scores are computed from all points before."""


def summaries(
    rows: Sequence[Sequence[float | None]], *, images: Sequence[str], bounds: Sequence[Bounds], seed: int
) -> tuple[Summary, ...]:
    """Compute mean, spread and confidence interval of each row over distinct images, rounded as in a report.

    Args:
        rows: One value per image, in the same order in every row; None where undefined.
        images: Digest of each image; images with the same digest count as one.
        bounds: Range of each row's metric.
        seed: The plan's seed.
    """
    if not rows:
        return ()
    table = distinct(_numbers(rows).T, images)
    found = summarize(table, generator=_bootstrap_stream(seed), bounds=bounds)
    return tuple(
        Summary(
            one.n,
            _printed(one.mean),
            _printed(one.std),
            _printed(one.sem),
            None if one.ci is None else (rounded(one.ci[0]), rounded(one.ci[1])),
            one.ci_reason,
        )
        for one in found
    )


def mean_curve(samples: CurveSamples, *, images: Sequence[str], seed: int) -> Curve:
    """Compute the mean curve over distinct images and its band, at most `PRINTED_POINTS` points including both ends.

    Args:
        samples: The curve of each image.
        images: Digest of each image.
        seed: The plan's seed.
    """
    steps = len(samples.x)
    kept = list(range(steps))
    if steps > PRINTED_POINTS:
        kept = [round(point * (steps - 1) / (PRINTED_POINTS - 1)) for point in range(PRINTED_POINTS)]
    rows = [[None] * len(kept) if row is None else [row[step] for step in kept] for row in samples.values]
    band = pointwise_ci(distinct(_numbers(rows), images), generator=_bootstrap_stream(seed))
    mean, low, high = (
        tuple(significant(value, VALUE_DIGITS) for value in part.tolist()) for part in (band.mean, band.lo, band.hi)
    )
    return Curve(
        x=tuple(samples.x[step] for step in kept), mean=mean, lo=low, hi=high, interpolated=samples.interpolated
    )


def _numbers(rows: Sequence[Sequence[float | None]]) -> np.ndarray:
    return np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=np.float64)


def _bootstrap_stream(seed: int) -> np.random.Generator:
    """Return the generator of the resamples, which are the same for every row; it depends on the plan's seed."""
    key = int.from_bytes(hashlib.sha256(f"{seed}\0bootstrap".encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


def _printed(value: float | None) -> float | None:
    return None if value is None else significant(value)
