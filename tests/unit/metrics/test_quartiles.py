"""Quartiles and whiskers: the definition by hand, matplotlib's box plot, and values that are undefined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.cbook import boxplot_stats

import reference
from auditcore.metrics.quartiles import box_plot

VALUES = st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=40)


@given(VALUES)
def test_the_box_is_that_of_the_definition_and_of_matplotlib(values: list[float]) -> None:
    found = box_plot(np.array(values, dtype=np.float64))
    assert found is not None
    assert found == pytest.approx(reference.box_plot(values), rel=1e-9, abs=1e-9)
    (drawn,) = boxplot_stats(np.array(values, dtype=np.float64))
    assert (found.q1, found.median, found.q3) == (drawn["q1"], drawn["med"], drawn["q3"])
    assert (found.lowest, found.highest) == pytest.approx((drawn["whislo"], drawn["whishi"]))


@given(VALUES, st.randoms())
def test_neither_order_nor_undefined_values_matter(values: list[float], random: object) -> None:
    shuffled = [*values, float("nan"), float("nan")]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert box_plot(np.array(shuffled)) == box_plot(np.array(values))


def test_outliers_lie_beyond_the_whiskers() -> None:
    assert box_plot(np.array([1.0, 2, 3, 4, 100])) == (1, 2, 3, 4, 4)
    assert box_plot(np.array([1.0, 2, 3, 4, 7])) == (1, 2, 3, 4, 7)
    assert box_plot(np.array([-100.0, 2, 3, 4, 5])) == (2, 2, 3, 4, 5)


def test_nothing_has_no_box() -> None:
    assert box_plot(np.array([np.nan, np.nan])) is None
    assert box_plot(np.array([])) is None
    assert box_plot(np.array([0.5, np.nan])) == (0.5,) * 5
