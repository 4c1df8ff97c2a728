"""Correlation over models: scipy through a replica, and the figures of table 4 of Won et al. 2025."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import reference
import won2025_tables
from auditcore.errors import ShapeError
from auditcore.metrics.model_correlation import pearson_over_models


@pytest.mark.parametrize("seed", range(4))
def test_it_is_numpys_and_the_replica(seed: int) -> None:
    one, other = np.random.default_rng(seed).normal(size=(2, 6))
    found = pearson_over_models(one, other)
    assert found == pytest.approx(np.corrcoef(one, other)[0, 1], rel=1e-12)
    assert found == pytest.approx(reference.pearson_over_models(one.tolist(), other.tolist()), rel=1e-12)
    assert found == pytest.approx(stats.linregress(one, other).rvalue, rel=1e-12)


def test_units_and_the_order_of_models_do_not_matter() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 7))
    found = pearson_over_models(one, other)
    order = np.random.default_rng(1).permutation(7)
    assert pearson_over_models(100 * one[order] + 3, other[order]) == pytest.approx(found, rel=1e-12)
    assert pearson_over_models(-one, other) == pytest.approx(-found, rel=1e-12)
    assert abs(pearson_over_models(one, 3 * one)) <= 1


def test_a_score_that_all_models_share_has_no_correlation() -> None:
    same = np.array([0.1 + 0.2, 0.3, 0.3])
    assert math.isnan(pearson_over_models(same, np.array([0.1, 0.2, 0.4])))
    assert math.isnan(pearson_over_models(np.array([0.1, 0.2, 0.4]), same))


def test_two_models_are_refused() -> None:
    with pytest.raises(ShapeError):
        pearson_over_models(np.zeros(2), np.zeros(2))
    with pytest.raises(ShapeError):
        pearson_over_models(np.zeros(3), np.zeros(4))


# --- table 4 --------------------------------------------------------------------------------------


def columns(table: won2025_tables.Table, dataset: str) -> np.ndarray:
    """Means, (models, columns)."""
    return np.array([[mean for mean, _ in row] for (group, _), row in table.items() if group == dataset])


@pytest.mark.parametrize("dataset", ["CIFAR-10", "ImageNet"])
def test_table_4_follows_from_the_averages_of_tables_5_and_6(dataset: str) -> None:
    lerf, inter = columns(won2025_tables.TABLE_5, dataset), columns(won2025_tables.TABLE_6, dataset)
    robustness = lerf[:, 6]
    printed = won2025_tables.TABLE_4[dataset]
    assert pearson_over_models(robustness, lerf[:, 5]) == pytest.approx(printed[0], abs=0.0006)
    assert pearson_over_models(robustness, inter[:, 5]) == pytest.approx(printed[1], abs=0.0006)


def test_one_average_of_table_5_is_not_that_of_its_row() -> None:
    """63.14 is printed for the baseline of ImageNet, whose five columns have the mean 68.14."""
    wrong = [
        (group, model, row[5][0], round(sum(mean for mean, _ in row[:5]) / 5, 2))
        for (group, model), row in won2025_tables.TABLE_5.items()
        if abs(sum(mean for mean, _ in row[:5]) / 5 - row[5][0]) > 0.01
    ]
    assert wrong == [("ImageNet", "Baseline", 63.14, 68.14)]
    lerf = columns(won2025_tables.TABLE_5, "ImageNet")
    assert pearson_over_models(lerf[:, 6], lerf[:, :5].mean(axis=1)) == pytest.approx(0.750, abs=0.0005)
