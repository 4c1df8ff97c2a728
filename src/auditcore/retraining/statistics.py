"""Means over repeats and over images, with their intervals, from the statistics of audits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from auditcore.contracts.metric import Bounds
from auditcore.contracts.retraining.statistic import Statistic
from auditcore.contracts.significance import VALUE_DIGITS, significant
from auditcore.metrics.statistics import Summary
from auditcore.report.bootstrap import summaries

NO_REPEAT = "no repeat has a value"
ONE_REPEAT = "a single repeat has no spread; set `repeats` to 2 or more"


Row = tuple[float | None, ...]
"""One value per repeat; None where undefined."""


class RepeatRow(NamedTuple):
    """A score in every repeat.

    Attributes:
        values: One per repeat.
        reasons: Repeat -> why it has no value.
        bounds: Range of the score.
    """

    values: Row
    reasons: Mapping[int, str]
    bounds: Bounds


def over_repeats(rows: Sequence[RepeatRow], *, seed: int) -> list[Statistic]:
    """Statistics over repeats: bootstrap-t from five repeats on, Student's t below.

    Args:
        rows: Scores with the same number of repeats.
        seed: Of the resamples.
    """
    repeats = [f"repeat {number}" for number in range(len(rows[0].values))] if rows else []
    found = summaries([row.values for row in rows], images=repeats, bounds=[row.bounds for row in rows], seed=seed)
    return [
        _statistic(row.values, dict(row.reasons), one._replace(ci_reason=_of_repeats(one)))
        for row, one in zip(rows, found, strict=True)
    ]


def over_images(
    rows: Sequence[Sequence[float]],
    *,
    reasons: Sequence[Mapping[int, str]],
    digests: Sequence[str],
    bounds: Sequence[Bounds],
    seed: int,
) -> list[Statistic]:
    """Statistics over distinct images, by the rule of the report of an audit.

    Args:
        rows: One value per image, in the same order in every row; NaN where undefined.
        reasons: Position of an image -> why its value is undefined, for each row.
        digests: Digest of each image; images with the same digest count as one.
        bounds: Range of each row.
        seed: Of the resamples.
    """
    printed = [[significant(value, VALUE_DIGITS) for value in row] for row in rows]
    found = summaries(printed, images=digests, bounds=bounds, seed=seed)
    return [
        _statistic(row, {place: why[place] for place, value in enumerate(row) if value is None}, one)
        for row, why, one in zip(printed, reasons, found, strict=True)
    ]


def _statistic(row: Sequence[float | None], reasons: dict[int, str], one: Summary) -> Statistic:
    return Statistic(
        values=tuple(row), reasons=reasons, n=one.n, mean=one.mean, std=one.std, ci=one.ci, ci_reason=one.ci_reason
    )


def _of_repeats(one: Summary) -> str | None:
    """Why there is no interval; scores of repeats have bounds, so that it can only be for want of repeats."""
    if one.ci is not None:
        return None
    return NO_REPEAT if one.n == 0 else ONE_REPEAT
