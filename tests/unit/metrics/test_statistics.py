"""Summaries over images: replica, scipy, coverage of edge cases, independence of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import reference
from auditcore.contracts.metric import Bounds
from auditcore.errors import ShapeError
from auditcore.metrics.statistics import (
    INTERVAL_RULE,
    LEAST_FOR_BOOTSTRAP,
    RESAMPLES,
    STRETCH,
    Summary,
    distinct,
    pointwise_ci,
    summarize,
)

RNG = np.random.default_rng


def skewed(n: int, rows: int = 1, seed: int = 12) -> np.ndarray:
    return RNG(seed).lognormal(size=(n, rows))


def one(values: np.ndarray, seed: int = 0, resamples: int = RESAMPLES, bounds: Bounds = (None, None)) -> Summary:
    (summary,) = summarize(
        np.asarray(values, dtype=np.float64)[:, None], generator=RNG(seed), resamples=resamples, bounds=[bounds]
    )
    return summary


def interval(values: np.ndarray | list[float], bounds: Bounds = (0, 1), **options: int) -> tuple[float, float]:
    found = one(np.asarray(values), bounds=bounds, **options).ci
    assert found is not None
    return found


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
    assert one(values).ci == pytest.approx((theirs.low, theirs.high), rel=1e-12)


def test_bootstrap_takes_over_at_five_values() -> None:
    values = skewed(5)[:, 0]
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert one(values).ci != pytest.approx((theirs.low, theirs.high), rel=1e-3)


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


@pytest.mark.parametrize("apart", [3, 4])
def test_resamples_without_spread_reach_as_far_as_the_limit(apart: int) -> None:
    # a resample of one value over and over would divide by 0
    values = np.array([1.0] * (8 - 2 * apart) + [0.0] * apart + [0.5] * apart)
    expected = reference.bootstrap_t_interval(values.tolist(), RNG(0).random((2000, 8)), student=student(8))
    summary = one(values, resamples=2000)
    assert summary.ci is not None
    assert summary.mean is not None
    assert summary.sem is not None
    if apart == 3:
        assert summary.ci == pytest.approx(expected, rel=1e-9)
    farthest = STRETCH * student(8) * summary.sem
    assert max(summary.mean - summary.ci[0], summary.ci[1] - summary.mean) <= farthest * (1 + 1e-9)


@pytest.mark.parametrize("outlier", [1e3, 1e9])
def test_one_outlier_does_not_make_the_interval_endless(outlier: float) -> None:
    values = np.append(np.linspace(0, 1, 9), outlier)
    summary = one(values)
    assert summary.ci is not None
    assert summary.sem is not None
    assert summary.ci[1] - summary.ci[0] <= 2 * STRETCH * student(10) * summary.sem


def test_values_at_the_mean_do_not_put_a_resample_at_the_limit() -> None:
    # of 9 values 4 are the mean itself; some resamples hold nothing else
    values = np.array([0.0, 0.2, 0.05, 0.15, 0.1, 0.1, 0.1, 0.1, 0.1 - 0.03, 0.1 + 0.03])
    expected = reference.bootstrap_t_interval(values.tolist(), RNG(0).random((1500, 10)), student=student(10))
    assert one(values, resamples=1500).ci == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-100, 1e-9, 3.0, 1e100])
def test_the_interval_follows_the_scale(scale: float) -> None:
    values = skewed(9)[:, 0]
    low, high = one(values).ci or (0, 0)
    assert one(scale * values).ci == pytest.approx((scale * low, scale * high), rel=1e-9, abs=0)


def test_the_rule_is_described_correctly() -> None:
    for fact in ("bootstrap-t", f"{RESAMPLES} resamples", f"below {LEAST_FOR_BOOTSTRAP} values", "95%"):
        assert fact in INTERVAL_RULE


@pytest.mark.parametrize("n", [2, 8, 30])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1])
@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1), (0, 100)])
def test_equal_values_reach_toward_the_bounds(n: int, value: float, bounds: tuple[float, float]) -> None:
    # definitions, section 10. The mean of seven tenths is off by one rounding
    low, high = interval([value] * n, bounds)
    share = 1 - 0.025 ** (1 / n)
    assert low == pytest.approx(value - (value - bounds[0]) * share, rel=1e-12)
    assert high == pytest.approx(value + (bounds[1] - value) * share, rel=1e-12)
    assert low < high


@pytest.mark.parametrize(
    ("bounds", "missing"), [((None, None), "range"), ((0, None), "upper bound"), ((None, 1), "lower bound")]
)
def test_equal_values_without_a_bound_have_no_interval(bounds: Bounds, missing: str) -> None:
    summary = one(np.full(7, 0.1), bounds=bounds)
    assert (summary.mean, summary.std, summary.ci) == (pytest.approx(0.1), 0, None)
    assert summary.ci_reason == (
        f"all 7 values are equal and the metric has no {missing}, so nothing limits the values that no image showed"
    )


@pytest.mark.parametrize("n", [2, 3, 8, 30, 100])
def test_shares_of_images_have_clopper_and_pearsons_interval(n: int) -> None:
    for ones in range(n + 1):
        theirs = stats.binomtest(ones, n).proportion_ci(0.95, method="exact")
        assert interval([1.0] * ones + [0.0] * (n - ones)) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 2.0)])
@pytest.mark.parametrize("equal", [4, 6])
def test_tied_values_have_gaffkes_interval(equal: int, bounds: tuple[float, float]) -> None:
    values = [0.7] * equal + [0.1, 0.95, 0.4, 0.5][: 8 - equal]
    stream = RNG(0)
    uniform, unseen = stream.random((900, 8)), stream.random(900)
    weights = [reference.weights_of([*row, last]) for row, last in zip(uniform.tolist(), unseen.tolist(), strict=True)]
    low = -reference.gaffke_upper_end([-value for value in values], -bounds[0], weights)
    high = reference.gaffke_upper_end(values, bounds[1], weights)
    assert interval(values, bounds, resamples=900) == pytest.approx((low, high), rel=1e-9)


def test_gaffkes_interval_is_the_quantile_of_its_distribution() -> None:
    # the exact distribution wants points apart; values this close are as good as equal
    values = [0.7, 0.7 + 1e-3, 0.7 - 1e-3, 0.2, 0.4]
    tied = [0.7, 0.7, 0.7, 0.2, 0.4]
    low, high = interval(tied, resamples=40_000)
    assert reference.random_mean_distribution([*values, 1.0], high) == pytest.approx(0.975, abs=0.004)
    assert reference.random_mean_distribution([*values, 0.0], low) == pytest.approx(0.025, abs=0.004)


def test_half_of_the_values_must_be_equal() -> None:
    rest = [0.1, 0.25, 0.3, 0.45, 0.9]
    for values, tied in (([0.6] * 5 + rest, True), ([0.6] * 4 + [0.65, *rest], False)):
        expected = reference.bootstrap_t_interval(values, RNG(0).random((900, 10)), student=student(10))
        assert (interval(values, resamples=900) == pytest.approx(expected, rel=1e-9)) is not tied


def test_an_open_end_reaches_as_far_as_bootstrap_t_and_the_rows_own_extreme() -> None:
    # two values far from 0, which bounds them from below and nothing from above
    values = np.array([5.0] * 7 + [3.0])
    low, high = interval(values, (0, None))
    bounded_low, _ = interval(values, (0, 5))
    expected = reference.bootstrap_t_interval(values.tolist(), RNG(0).random((RESAMPLES, 8)), student=student(8))
    theirs = stats.binomtest(7, 8).proportion_ci(0.95, method="exact")
    assert low == bounded_low
    assert high == pytest.approx(max(expected[1], 3 + 2 * theirs.high), rel=1e-9)
    assert interval(values, (None, None))[0] == pytest.approx(min(expected[0], 3 + 2 * theirs.low), rel=1e-9)


@pytest.mark.parametrize("values", [[0.01, 0.3, 0.02, 0.0, 0.05], [0.99, 1.0, 0.6, 0.97, 1.0], [0.0, 1.0, 0.5]])
def test_ends_stay_within_the_range(values: list[float]) -> None:
    low, high = interval(values)
    wide_low, wide_high = interval(values, (None, None))
    assert wide_low < 0 or wide_high > 1
    assert (low, high) == (max(wide_low, 0.0), min(wide_high, 1.0))


def test_a_bound_that_a_value_violates_is_not_used() -> None:
    assert interval([1.3, 0.2, 0.9, 1.0, 0.7]) == interval([1.3, 0.2, 0.9, 1.0, 0.7], (0, None))
    broken = one(np.full(8, 1.3), bounds=(0, 1))
    assert broken.ci is None
    assert "bound that its values keep" in (broken.ci_reason or "")
    # a rounding is no breach
    assert interval([1.00001] * 8) == pytest.approx((0.025 ** (1 / 8), 1.00001), rel=1e-4)


def test_bounds_belong_to_rows() -> None:
    with pytest.raises(ShapeError, match="2 pairs of bounds"):
        summarize(skewed(8, rows=2), generator=RNG(0), bounds=[(0, 1)])


def test_copies_of_an_image_count_once() -> None:
    values = np.array([[0.25, np.nan], [0.75, 0.5], [0.5, np.nan], [0.0, 0.25], [1.0, np.nan]])
    images = ["a", "b", "a", "c", "a"]
    found = distinct(values, images)
    for column in range(2):
        plain = [None if np.isnan(value) else float(value) for value in values[:, column]]
        expected = reference.distinct_means(plain, images)
        assert found[:, column].tolist() == pytest.approx([np.nan if v is None else v for v in expected], nan_ok=True)
    assert distinct(values, list("abcde")) is values
    with pytest.raises(ShapeError, match="5 images"):
        distinct(values, ["a"])


def test_thirty_copies_of_one_photo_are_one_image() -> None:
    (summary,) = summarize(distinct(np.full((30, 1), 0.1), ["same"] * 30), generator=RNG(0), bounds=[(0, 1)])
    assert (summary.n, summary.mean, summary.ci) == (1, pytest.approx(0.1), None)
    assert summary.ci_reason == "a single image has no spread"
    values = skewed(9, rows=2)
    copies = np.concatenate([values, values[:1], values[4:6], values[:1]])
    names = [*range(9), 0, 4, 5, 0]
    assert summarize(distinct(copies, names), generator=RNG(0)) == summarize(values, generator=RNG(0))


def test_too_few_values_have_no_spread() -> None:
    nothing, single = summarize(np.array([[np.nan, 0.4], [np.nan, np.nan]]), generator=RNG(0))
    assert nothing == (0, None, None, None, None, "no image has a value")
    assert single == (1, 0.4, None, None, None, "a single image has no spread")


def test_rows_do_not_depend_on_each_other() -> None:
    table = skewed(12, rows=5)
    table[[2, 5], 1] = np.nan
    table[7, 3] = np.nan
    table[3:, 4] = 0.5
    ranges: list[Bounds] = [(None, None), (0, None), (0, 100), (None, None), (-1, 100)]
    together = summarize(table, generator=RNG(0), bounds=ranges)
    for row in range(5):
        (alone,) = summarize(table[:, [row]], generator=RNG(0), bounds=ranges[row : row + 1])
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
@given(
    # differences that a float64 variance can hold
    values=st.lists(st.floats(-100, 100).map(lambda value: round(value, 9)), min_size=2, max_size=15),
    shift=st.floats(-10, 10),
)
def test_interval_contains_the_mean_and_moves_with_the_values(values: list[float], shift: float) -> None:
    summary = one(np.array(values), resamples=500, bounds=(-100, 100))
    assert summary.ci is not None
    assert summary.mean is not None
    low, high = summary.ci
    assert low - 1e-9 <= summary.mean <= high + 1e-9
    assert -100 <= low < high <= 100
    moved = one(np.array(values) + shift, resamples=500, bounds=(-100 + shift, 100 + shift))
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


def test_ten_thousand_resamples_by_default() -> None:
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
