"""Summaries over images: replica, scipy, coverage of edge cases, independence of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import reference
from auditcore.metrics.statistics import (
    INTERVAL_RULE,
    LEAST_FOR_BOOTSTRAP,
    RESAMPLES,
    STRETCH,
    Summary,
    interval_method,
    pointwise_ci,
    summarize,
)

RNG = np.random.default_rng


def skewed(n: int, rows: int = 1, seed: int = 12) -> np.ndarray:
    return RNG(seed).lognormal(size=(n, rows))


def one(values: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> Summary:
    (summary,) = summarize(np.asarray(values, dtype=np.float64)[:, None], generator=RNG(seed), resamples=resamples)
    return summary


def student(n: int) -> float:
    return float(stats.t.ppf(0.975, n - 1))


@pytest.mark.parametrize("n", [5, 6, 20])
def test_summary_equals_its_definition(n: int) -> None:
    values = skewed(n)[:, 0].tolist()
    summary = one(np.array(values), resamples=700)
    mean, std, sem = reference.mean_std_sem(values)
    assert summary[:4] == (n, pytest.approx(mean), pytest.approx(std), pytest.approx(sem))
    expected = reference.bootstrap_t_interval(values, RNG(0).random((700, n)), student=student(n))
    assert summary.ci == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_interval_of_few_values_is_students_and_scipys(n: int) -> None:
    values = skewed(n)[:, 0]
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval_method(n) == "student_t"
    assert one(values).ci == pytest.approx((theirs.low, theirs.high), rel=1e-12)


def test_bootstrap_takes_over_at_five_values() -> None:
    assert [interval_method(n) for n in (2, 4, 5, 1000)] == ["student_t", "student_t", "bootstrap_t", "bootstrap_t"]


@pytest.mark.parametrize("n", [12, 100])
def test_interval_agrees_with_scipys_own_resamples(n: int) -> None:
    values = skewed(n)[:, 0]
    mean, sem = values.mean(), values.std(ddof=1) / np.sqrt(n)

    def distance(sample: np.ndarray, axis: int) -> np.ndarray:
        return (sample.mean(axis=axis) - mean) / (sample.std(axis=axis, ddof=1) / np.sqrt(n))

    found = stats.bootstrap((values,), distance, n_resamples=RESAMPLES, method="percentile", rng=RNG(1))
    low, high = np.quantile(found.bootstrap_distribution, (0.025, 0.975))
    limit = STRETCH * student(n)
    theirs = mean - min(high, limit) * sem, mean - max(low, -limit) * sem
    # quantiles at 2.5 % of 10 000 resamples scatter by a few percent of the standard error
    assert one(values).ci == pytest.approx(theirs, abs=0.2 * sem)


@pytest.mark.parametrize("ones", [1, 4, 7])
def test_resamples_without_spread_reach_as_far_as_the_limit(ones: int) -> None:
    # a resample of nothing but ones would divide by 0
    values = np.array([1.0] * ones + [0.0] * (8 - ones))
    expected = reference.bootstrap_t_interval(values.tolist(), RNG(0).random((2000, 8)), student=student(8))
    summary = one(values, resamples=2000)
    assert summary.ci == pytest.approx(expected, rel=1e-9)
    assert summary.mean is not None
    assert summary.sem is not None
    assert summary.ci is not None
    farthest = STRETCH * student(8) * summary.sem
    assert max(summary.mean - summary.ci[0], summary.ci[1] - summary.mean) <= farthest * (1 + 1e-9)
    if ones == 7:  # a third of the resamples are all ones and call for an end far below
        assert summary.ci[0] == pytest.approx(summary.mean - farthest, rel=1e-9)


@pytest.mark.parametrize("outlier", [1e3, 1e9])
def test_one_outlier_does_not_make_the_interval_endless(outlier: float) -> None:
    values = np.append(np.linspace(0, 1, 9), outlier)
    summary = one(values)
    assert summary.ci is not None
    assert summary.sem is not None
    assert summary.ci[1] - summary.ci[0] <= 2 * STRETCH * student(10) * summary.sem


def test_values_at_the_mean_are_no_resample_at_the_limit() -> None:
    # of 30 values 28 are the mean itself; one resample in seven holds nothing else
    values = np.array([0.0, 0.2, *[0.1] * 28])
    expected = reference.bootstrap_t_interval(values.tolist(), RNG(0).random((1500, 30)), student=student(30))
    assert one(values, resamples=1500).ci == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-100, 1e-9, 3.0, 1e100])
def test_the_interval_follows_the_scale(scale: float) -> None:
    values = skewed(9)[:, 0]
    low, high = one(values).ci or (0, 0)
    assert one(scale * values).ci == pytest.approx((scale * low, scale * high), rel=1e-9, abs=0)


def test_the_rule_is_told_as_it_is() -> None:
    for fact in ("bootstrap-t", f"{RESAMPLES} resamples", f"below {LEAST_FOR_BOOTSTRAP} values", "95%"):
        assert fact in INTERVAL_RULE


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -2e-9])
def test_equal_values_have_an_interval_of_no_width(value: float) -> None:
    summary = one(np.full(7, value))
    # the mean of seven tenths is off by one rounding
    assert (summary.mean, summary.ci) == (pytest.approx(value), (summary.mean, summary.mean))
    assert summary.std == 0


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
    assert low - 1e-9 <= summary.mean <= high + 1e-9
    moved = one(np.array(values) + shift, resamples=500)
    assert moved.ci == pytest.approx((low + shift, high + shift), abs=1e-6)


@pytest.mark.parametrize("population", ["normal", "beta", "exponential"])
def test_intervals_of_thirty_scores_cover_the_mean(population: str) -> None:
    # issue B: at least 93 %; 94.5 to 95.4 % in 4000 samples of tests/benchmarks/coverage.py, and 92.0 % for BCa on
    # exponential data. 2000 samples scatter by 0.5 %.
    truth = {"normal": 0.0, "beta": 2 / 7, "exponential": 1.0}[population]
    sample = {"beta": lambda: RNG(7).beta(2, 5, (30, 2000))}.get(population) or (
        lambda: getattr(RNG(7), "standard_" + population)(size=(30, 2000))
    )
    found = [summary.ci for summary in summarize(sample(), generator=RNG(1), resamples=2000)]
    covered = sum(ci is not None and ci[0] <= truth <= ci[1] for ci in found) / 2000
    assert 0.93 <= covered <= 0.965


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
        theirs = stats.bootstrap(
            (values,), np.mean, n_resamples=0, method="percentile", bootstrap_result=_Distribution(np.array(means))
        ).confidence_interval
        assert (low[point], high[point]) == pytest.approx((theirs.low, theirs.high))
    assert (mean[2], low[2], high[2]) == (0.5, 0.5, 0.5)
    assert mean[3] == curves[0, 3]
    assert np.isnan([low[3], high[3]]).all()


class _Distribution:
    """What `scipy.stats.bootstrap` reads of an earlier result."""

    def __init__(self, means: np.ndarray) -> None:
        self.bootstrap_distribution = means
