"""Summaries over images: replica, scipy, coverage of edge cases, independence of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import reference
from auditcore.metrics.statistics import RESAMPLES, Summary, pointwise_ci, summarize

RNG = np.random.default_rng


def skewed(n: int, rows: int = 1, seed: int = 12) -> np.ndarray:
    return RNG(seed).lognormal(size=(n, rows))


def one(values: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> Summary:
    (summary,) = summarize(np.asarray(values, dtype=np.float64)[:, None], generator=RNG(seed), resamples=resamples)
    return summary


@pytest.mark.parametrize("n", [2, 3, 20])
def test_summary_equals_its_definition(n: int) -> None:
    values = skewed(n)[:, 0].tolist()
    summary = one(np.array(values), resamples=700)
    mean, std, sem = reference.mean_std_sem(values)
    assert summary[:4] == (n, pytest.approx(mean), pytest.approx(std), pytest.approx(sem))
    means = reference.bootstrap_means(values, RNG(0).random((700, n)))
    assert summary.ci == pytest.approx(reference.bca_interval(values, means), rel=1e-9)


@pytest.mark.parametrize("n", [4, 30])
def test_interval_is_scipys_for_the_same_resamples(n: int) -> None:
    values = skewed(n)[:, 0]
    means = np.array(reference.bootstrap_means(values.tolist(), RNG(3).random((500, n))))
    # scipy adds no resamples to the distribution it is handed
    result = stats.bootstrap(
        (values,), np.mean, n_resamples=0, method="BCa", bootstrap_result=_Distribution(means)
    ).confidence_interval
    assert one(values, seed=3, resamples=500).ci == pytest.approx((result.low, result.high), rel=1e-9)


class _Distribution:
    """What `scipy.stats.bootstrap` reads of an earlier result."""

    def __init__(self, means: np.ndarray) -> None:
        self.bootstrap_distribution = means


@pytest.mark.parametrize("n", [8, 100])
def test_interval_agrees_with_scipys_own_resamples(n: int) -> None:
    values = skewed(n)[:, 0]
    theirs = stats.bootstrap((values,), np.mean, n_resamples=RESAMPLES, method="BCa", rng=RNG(1)).confidence_interval
    ours = one(values).ci
    # quantiles at 2.5 % of 10 000 resamples scatter by a few percent of the standard error
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.1 * values.std() / np.sqrt(n))


def test_binary_scores_count_ties_half() -> None:
    # every other resampled mean equals the mean; counting them as below would bias the interval
    values = np.array([0.0, 1, 1, 0, 1, 0])
    means = reference.bootstrap_means(values.tolist(), RNG(0).random((2000, 6)))
    assert one(values, resamples=2000).ci == pytest.approx(reference.bca_interval(values.tolist(), means), rel=1e-9)


def test_ties_are_seen_through_rounding() -> None:
    values = np.array([0.1, 0.2, 0.3, 0.4])
    low, high = one(values).ci or (0, 0)
    assert (low + high) / 2 == pytest.approx(0.25, abs=2e-3)
    assert one(3 * values).ci == pytest.approx((3 * low, 3 * high), rel=1e-9)


@pytest.mark.parametrize("value", [0.0, 1.0, 1 / 3, -2e-9])
def test_equal_values_have_an_interval_of_no_width(value: float) -> None:
    summary = one(np.full(7, value))
    assert (summary.mean, summary.ci) == (pytest.approx(value), pytest.approx((value, value)))
    assert summary.std == pytest.approx(0, abs=1e-15)


def test_too_few_values_have_no_spread() -> None:
    nothing, single = summarize(np.array([[np.nan, 0.4], [np.nan, np.nan]]), generator=RNG(0))
    assert nothing == (0, None, None, None, None)
    assert single == (1, 0.4, None, None, None)


def test_rows_do_not_depend_on_each_other() -> None:
    table = skewed(12, rows=5)
    table[[2, 5], 1] = np.nan
    table[7, 3] = np.nan
    together = summarize(table, generator=RNG(0))
    for row in range(5):
        (alone,) = summarize(table[:, [row]], generator=RNG(0))
        assert alone.n == together[row].n
        assert alone[1:4] == pytest.approx(together[row][1:4], rel=1e-12)
        assert alone.ci == pytest.approx(together[row].ci, rel=1e-12)


def test_missing_values_are_left_out_not_counted_as_zero() -> None:
    values = skewed(12)[:, 0]
    gaps = np.insert(values, [0, 4, 12], np.nan)
    assert one(gaps)[:4] == pytest.approx(one(values)[:4])


def test_the_same_seed_gives_the_same_interval() -> None:
    values = skewed(30)[:, 0]
    assert one(values, seed=5) == one(values, seed=5)
    assert one(values, seed=5) != one(values, seed=6)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(values=st.lists(st.floats(-100, 100), min_size=2, max_size=15), shift=st.floats(-10, 10))
def test_interval_holds_the_mean_and_moves_with_the_values(values: list[float], shift: float) -> None:
    summary = one(np.array(values), resamples=500)
    assert summary.ci is not None
    assert summary.mean is not None
    low, high = summary.ci
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    moved = one(np.array(values) + shift, resamples=500)
    assert moved.ci == pytest.approx((low + shift, high + shift), abs=1e-6)


def test_intervals_of_skewed_scores_cover_the_mean() -> None:
    # 500 audits of 30 images each, gamma distributed with skewness 1.4
    truth = 2.0
    covered = 0
    table = RNG(7).gamma(2, size=(30, 500))
    for summary in summarize(table, generator=RNG(1), resamples=1000):
        assert summary.ci is not None
        covered += summary.ci[0] <= truth <= summary.ci[1]
    assert 0.91 <= covered / 500 <= 0.97


def test_ten_thousand_resamples_unless_asked_otherwise() -> None:
    # definitions, section 10
    values = np.random.default_rng(3).normal(size=(9, 1))
    by_default, asked = (
        summarize(values, generator=np.random.default_rng(1), **options) for options in ({}, {"resamples": 10_000})
    )
    assert by_default == asked


def test_pointwise_interval_is_the_percentile_bootstrap() -> None:
    curves = skewed(15, rows=4)
    curves[:, 2] = 0.5
    curves[3, 1] = np.nan
    curves[1:, 3] = np.nan
    mean, low, high = pointwise_ci(curves, generator=RNG(0), resamples=800)
    uniform = RNG(0).random((800, 15))
    for point in (0, 1):
        values = [float(value) for value in curves[:, point] if not np.isnan(value)]
        means = reference.bootstrap_means(values, uniform)
        assert mean[point] == pytest.approx(np.mean(values))
        assert low[point] == pytest.approx(reference.quantile(means, 0.025))
        assert high[point] == pytest.approx(reference.quantile(means, 0.975))
    assert (mean[2], low[2], high[2]) == (0.5, 0.5, 0.5)
    assert mean[3] == curves[0, 3]
    assert np.isnan([low[3], high[3]]).all()
