"""The average over explainers and its two standard errors: replica, gaps, and the errors that the paper prints."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import reference
import won2025_tables
from auditcore.errors import ShapeError
from auditcore.metrics.explainer_average import average_over_explainers, pooled_standard_error


def values(seed: int, *, gaps: float = 0.2) -> np.ndarray:
    generator = np.random.default_rng(seed)
    table = generator.normal(size=(4, 30))
    table[generator.random(table.shape) < gaps] = np.nan
    return table


@pytest.mark.parametrize("seed", range(3))
def test_both_are_their_replicas(seed: int) -> None:
    table = values(seed)
    assert average_over_explainers(table) == pytest.approx(
        reference.average_over_explainers(table.tolist()), rel=1e-12, nan_ok=True
    )
    assert pooled_standard_error(table) == pytest.approx(reference.pooled_standard_error(table.tolist()), rel=1e-12)


def test_an_image_without_a_value_of_one_explainer_has_no_average() -> None:
    table = np.array([[0.2, np.nan, 0.6], [0.4, 0.5, np.nan]])
    assert average_over_explainers(table).tolist() == pytest.approx([0.3, math.nan, math.nan], nan_ok=True)
    # one image with two values
    assert pooled_standard_error(table) == pytest.approx(0.1)


def test_the_pooled_error_is_scipys_of_all_values() -> None:
    table = values(0, gaps=0)
    assert pooled_standard_error(table) == pytest.approx(stats.sem(table.ravel()), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_explainers_changes_no_digit(seed: int) -> None:
    table = values(seed)
    turned = table[np.random.default_rng(seed).permutation(len(table))]
    assert np.array_equal(average_over_explainers(turned), average_over_explainers(table), equal_nan=True)


def test_the_order_of_images_moves_averages_with_them() -> None:
    table = values(1)
    order = np.random.default_rng(1).permutation(table.shape[1])
    assert np.array_equal(
        average_over_explainers(table[:, order]), average_over_explainers(table)[order], equal_nan=True
    )
    assert pooled_standard_error(table[:, order]) == pytest.approx(pooled_standard_error(table), rel=1e-12)


def test_explainers_that_agree_on_hard_images_make_the_pooled_error_too_small() -> None:
    hard = np.random.default_rng(0).normal(size=(1, 200)).repeat(5, axis=0)
    averages = average_over_explainers(hard)
    assert pooled_standard_error(hard) == pytest.approx(stats.sem(averages) / math.sqrt(5), rel=0.01)


def test_too_little_is_undefined_or_refused() -> None:
    assert math.isnan(pooled_standard_error(np.array([[0.5]])))
    assert math.isnan(pooled_standard_error(np.array([[0.5, np.nan], [np.nan, 0.5]])))
    with pytest.raises(ShapeError):
        average_over_explainers(np.zeros((0, 3)))


# --- the paper ------------------------------------------------------------------------------------


def _spread(errors: list[float], means: list[float]) -> float:
    """Pooled error from the errors and means of single explainers, over so many images that n and n - 1 are alike."""
    images = won2025_tables.IMAGES
    variances = [error**2 * images for error in errors]
    return math.sqrt((np.mean(variances) + np.var(means)) / (images * len(means)))


def _independent(errors: list[float]) -> float:
    return math.sqrt(sum(error**2 for error in errors)) / len(errors)


ROWS = [
    (half, row[:6])
    for table, half in (
        (won2025_tables.TABLE_2, 0.0005),
        (won2025_tables.TABLE_5, 0.005),
        (won2025_tables.TABLE_6, 0.005),
    )
    for row in table.values()
]


@pytest.mark.parametrize(("half", "row"), ROWS)
def test_the_paper_prints_the_pooled_error(half: float, row: tuple[tuple[float, float], ...]) -> None:
    """Every error of the column Average, within the rounding of the printed columns."""
    *single, (_, printed) = row
    means = [mean for mean, _ in single]
    least, most = (_spread([error + side * half for _, error in single], means) for side in (-1, 1))
    assert least - half <= printed <= most + half


def test_the_spread_between_explainers_is_in_the_error_that_the_paper_prints() -> None:
    """Without it the errors of the effective heat ratio would be printed as 0.001."""
    ratios = [row for (metric, _), row in won2025_tables.TABLE_2.items() if metric == "EHR"]
    found = [(_independent([error for _, error in row[:5]]), row[5][1]) for row in ratios]
    assert sum(round(independent, 3) == printed for independent, printed in found) == 1
    assert len(found) == 6
