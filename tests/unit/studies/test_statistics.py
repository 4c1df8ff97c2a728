"""Means over seeds and paired differences, against their textbook formulas."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from auditcore.studies.statistics import EQUAL_DIFFERENCES, NO_PAIR, ONE_PAIR, difference_by_seed, over_seeds

# of Student's t, 97.5 %, from any table
T_975 = {1: 12.706, 2: 4.303, 4: 2.776}


@pytest.mark.parametrize("values", [[1.0, 4.0], [0.2, 0.5, 0.4], [3.0, 1.0, 4.0, 1.0, 5.0]])
def test_the_interval_is_students(values: list[float]) -> None:
    found = over_seeds(values)
    sem = statistics.stdev(values) / math.sqrt(len(values))
    reach = T_975[len(values) - 1] * sem
    assert found.n == len(values)
    assert found.mean == pytest.approx(statistics.mean(values))
    assert found.sem == pytest.approx(sem)
    assert found.ci is not None
    low, high = found.ci
    assert (low + high) / 2 == pytest.approx(statistics.mean(values))
    assert (high - low) / 2 == pytest.approx(reach, rel=1e-3)


def test_what_is_undefined_is_left_out_and_never_zero() -> None:
    assert over_seeds([None, 2.0, None, 4.0]) == over_seeds([2.0, 4.0])
    assert over_seeds([None, None]) == (0, None, None, None)
    assert over_seeds([3.0, None]) == (1, 3.0, None, None)


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=3, max_size=6))
def test_a_difference_agrees_with_scipy_and_changes_its_sign(pairs: list[tuple[float, float]]) -> None:
    ones, others = ([pair[side] for pair in pairs] for side in (0, 1))
    found, turned = difference_by_seed(ones, others), difference_by_seed(others, ones)
    assert found.mean == pytest.approx(-turned.mean, abs=1e-12)  # type: ignore[operator]
    if found.p_value is not None:
        expected = ttest_1samp([one - other for one, other in pairs], 0)
        assert found.p_value == pytest.approx(float(expected.pvalue), rel=1e-4, abs=1e-9)
        assert found.ci == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-6, abs=1e-9)


def test_a_difference_without_spread_has_a_reason() -> None:
    same = difference_by_seed([2.0, 3.0], [1.0, 2.0])
    assert (same.mean, same.p_value, same.reason) == (1.0, None, EQUAL_DIFFERENCES)
    one = difference_by_seed([2.0, None], [1.5, 2.0])
    assert (one.mean, one.ci, one.p_value, one.n, one.reason) == (0.5, None, None, 1, ONE_PAIR)
    assert difference_by_seed([None], [1.0]).reason == NO_PAIR
