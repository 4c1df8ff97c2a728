"""The paired t-test: scipy, a replica by hand, calibration under the null, and differences without spread."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import reference
from auditcore.errors import ShapeError
from auditcore.metrics.paired_test import paired_t_test


def pair(seed: int, n: int = 12, shift: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    base = generator.normal(size=n)
    return base + shift + 0.5 * generator.normal(size=n), base


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n", [2, 3, 12, 60])
def test_it_is_scipys_and_the_replica(seed: int, n: int) -> None:
    one, other = pair(seed, n)
    found = paired_t_test(one, other)
    theirs = stats.ttest_1samp(one - other, 0)
    assert tuple(found) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-10)
    assert tuple(found) == pytest.approx(reference.paired_t_test(one.tolist(), other.tolist()), rel=1e-6, abs=1e-9)


def test_sides_change_the_sign_only_and_the_order_of_images_nothing() -> None:
    one, other = pair(0)
    found, turned = paired_t_test(one, other), paired_t_test(other, one)
    assert (turned.t, turned.p_value) == (pytest.approx(-found.t), pytest.approx(found.p_value))
    order = np.random.default_rng(0).permutation(len(one))
    assert tuple(paired_t_test(one[order], other[order])) == pytest.approx(tuple(found), rel=1e-10)


def test_images_that_differ_much_hide_nothing() -> None:
    generator = np.random.default_rng(0)
    hard = 10 * generator.normal(size=40)
    one, other = hard + 0.1 + 0.05 * generator.normal(size=40), hard
    assert paired_t_test(one, other).p_value < 1e-6
    assert stats.ttest_ind(one, other).pvalue > 0.5


def test_one_in_twenty_is_below_five_percent_between_equal_models() -> None:
    generator = np.random.default_rng(0)
    below = sum(paired_t_test(generator.normal(size=20), generator.normal(size=20)).p_value < 0.05 for _ in range(4000))
    # three standard errors of a share of .05 of 4000
    assert abs(below / 4000 - 0.05) < 0.0104


@pytest.mark.parametrize("shift", [0.0, 0.1, 1e6])
def test_equal_differences_are_undefined(shift: float) -> None:
    _, other = pair(0)
    found = paired_t_test(other + shift, other)
    assert math.isnan(found.t)
    assert math.isnan(found.p_value)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError):
        paired_t_test(np.zeros(3), np.zeros(4))
    with pytest.raises(ShapeError):
        paired_t_test(np.zeros(1), np.zeros(1))
