"""Confidence sequences: against the paper in plain loops, and against the guarantee they are there for."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import reference_stopping as reference
from auditcore.errors import ShapeError
from auditcore.metrics.confidence_sequences import (
    SHARES,
    first_refuted,
    log_capital,
    lower_bound,
    upper_bound,
)

ALPHA = 0.05

# as printed: multiples of a step, many ties, both ends, and gaps
values_between_0_and_1 = st.lists(
    st.one_of(st.none(), st.integers(0, 20).map(lambda step: step / 20)), min_size=1, max_size=40
)


def array(values: list[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def random_values(seed: int, count: int, *, gaps: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = random.beta(2, 3, count).round(5)
    values[random.random(count) < gaps] = np.nan
    return values


@pytest.mark.parametrize("gaps", [0.0, 0.3])
@pytest.mark.parametrize(("lowest", "scale"), [(0.0, 1.0), (-1.0, 2.0), (0.0, 100.0)])
def test_capital_is_that_of_the_paper(gaps: float, lowest: float, scale: float) -> None:
    for seed in range(5):
        values = lowest + scale * random_values(seed, 30, gaps=gaps)
        listed = [None if math.isnan(value) else value for value in values.tolist()]
        for claim in (lowest + scale * share for share in (0.05, 0.3, 0.4, 0.9)):
            for population in (37, None):
                found = np.exp(log_capital(values, population=population, claim=claim, lowest=lowest))
                expected = reference.capital(listed, population, claim, lowest, SHARES)
                np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_bounds_are_those_of_the_paper() -> None:
    for seed in range(3):
        values = random_values(seed, 25, gaps=0.2)
        listed = [None if math.isnan(value) else value for value in values.tolist()]
        found = lower_bound(values, population=60, lowest=0.0, alpha=ALPHA)
        expected = reference.lower_bound(listed, 60, 0.0, ALPHA, SHARES, 400)
        assert found == pytest.approx(expected, abs=1 / 400)
        above = upper_bound(values, population=60, highest=1.0, alpha=ALPHA)
        mirrored = [None if value is None else 1 - value for value in listed]
        assert above == pytest.approx(1 - reference.lower_bound(mirrored, 60, 0.0, ALPHA, SHARES, 400), abs=1 / 400)


@pytest.mark.parametrize("values", [[0.1, 0.9, 0.4, 0.4, 0.7, 0.0], [1.0, 0.0, 1.0, 1.0, None, 0.0]])
def test_capital_does_not_grow_on_average_over_all_orders(values: list[float | None]) -> None:
    known = [value for value in values if value is not None]
    mean = sum(known) / len(known)
    orders = np.array(list(itertools.permutations(array(values))))
    fair = np.exp(log_capital(orders, population=len(values), claim=mean, lowest=0.0))
    np.testing.assert_allclose(fair.mean(axis=0), 1, rtol=1e-9)
    # a claim above the mean is true as well, and betting against it only loses
    true = np.exp(log_capital(orders, population=len(values), claim=mean + 0.1, lowest=0.0))
    assert (true.mean(axis=0) < 1).all()
    # exactly Ville's inequality, by enumeration
    for alpha in (0.5, 0.2, 0.05):
        assert (fair.max(axis=1) >= 1 / alpha).mean() <= alpha
    # and a false one is refuted in every order, at the latest by the last image
    assert np.isinf(log_capital(orders, population=len(values), claim=mean - 1e-6, lowest=0.0)[:, -1]).all()


def test_capital_does_not_grow_on_average_over_the_population() -> None:
    # all sequences of four draws from three values, one of which stands for two images in six
    draws = np.array(list(itertools.product([0.0, 0.25, 0.25, 1.0, 0.5, 0.1], repeat=4)))
    mean = float(draws.mean())
    fair = np.exp(log_capital(draws, population=None, claim=mean, lowest=0.0))
    np.testing.assert_allclose(fair.mean(axis=0), 1, rtol=1e-9)
    assert (np.exp(log_capital(draws, population=None, claim=mean + 0.1, lowest=0.0)).mean(axis=0) < 1).all()
    for alpha in (0.5, 0.2, 0.05):
        assert (fair.max(axis=1) >= 1 / alpha).mean() <= alpha


def test_the_mean_of_all_images_is_never_at_the_lowest_value_once_another_was_seen() -> None:
    values = np.array([0.0, 0.0, 0.3])
    assert first_refuted(values, population=None, claim=0.0, lowest=0.0, alpha=ALPHA) == 3
    assert first_refuted(values[:2], population=None, claim=0.0, lowest=0.0, alpha=ALPHA) is None
    assert first_refuted(values, population=None, claim=-0.1, lowest=0.0, alpha=ALPHA) == 1


def test_a_fully_seen_batch_gives_a_wider_bound_for_the_population_than_for_itself() -> None:
    values = random_values(3, 60)
    low, high = (
        lower_bound(values, population=None, lowest=0.0, alpha=ALPHA),
        upper_bound(values, population=None, highest=1.0, alpha=ALPHA),
    )
    assert low < float(values.mean()) - 0.02
    assert high > float(values.mean()) + 0.02
    listed = values.tolist()
    assert low == pytest.approx(reference.lower_bound(listed, None, 0.0, ALPHA, SHARES, 400), abs=1 / 400)


@settings(max_examples=40)
@given(values=values_between_0_and_1, more=st.integers(0, 30))
def test_bounds_only_close_in_and_meet_at_the_mean(values: list[float | None], more: int) -> None:
    sample, population = array(values), len(values) + more
    before = (0.0, 1.0)
    for seen in range(0, len(values) + 1, 4):
        low = lower_bound(sample[:seen], population=population, lowest=0.0, alpha=ALPHA)
        high = upper_bound(sample[:seen], population=population, highest=1.0, alpha=ALPHA)
        assert low >= before[0] - 1e-9
        assert high <= before[1] + 1e-9
        before = (low, high)
    if more == 0 and not np.isnan(sample).all():
        mean = float(np.nanmean(sample))
        ends = (
            lower_bound(sample, population=population, lowest=0.0, alpha=ALPHA),
            upper_bound(sample, population=population, highest=1.0, alpha=ALPHA),
        )
        # in this one order a bound may be wrong, which happens once in 20; it never stays short of the mean
        assert ends[0] >= mean - 1e-9
        assert ends[1] <= mean + 1e-9


@settings(max_examples=40)
@given(values=values_between_0_and_1, more=st.integers(0, 30), claim=st.floats(0.01, 0.99))
def test_a_claim_is_refuted_exactly_if_it_is_below_the_bound(
    values: list[float | None], more: int, claim: float
) -> None:
    sample, population = array(values), len(values) + more
    bound = lower_bound(sample, population=population, lowest=0.0, alpha=ALPHA)
    refuted = first_refuted(sample, population=population, claim=claim, lowest=0.0, alpha=ALPHA) is not None
    if abs(claim - bound) > 1e-6:
        assert refuted == (claim < bound)


def test_a_lower_bound_needs_no_upper_end() -> None:
    values = random_values(1, 40)
    values[3] = 1e9
    assert lower_bound(values, population=1000, lowest=0.0, alpha=ALPHA) > 0.2
    assert first_refuted(values, population=1000, claim=0.1, lowest=0.0, alpha=ALPHA) is not None


def test_an_impossible_claim_is_refuted_at_once() -> None:
    assert first_refuted(np.array([0.3]), population=10, claim=-0.1, lowest=0.0, alpha=ALPHA) == 1
    # 5 of 10 are 1, so that the mean is at least 0.5 whatever comes
    ones = np.ones(5)
    assert first_refuted(ones, population=10, claim=0.49, lowest=0.0, alpha=1e-9) == 5
    assert first_refuted(ones, population=10, claim=0.51, lowest=0.0, alpha=1e-9) is None


def test_images_without_values_change_no_side() -> None:
    values = random_values(2, 60)
    sparse = np.full(180, np.nan)
    sparse[::3] = values
    # the mean over the defined ones is asked for, and their number is not known in advance
    low = lower_bound(sparse, population=600, lowest=0.0, alpha=ALPHA)
    assert low == pytest.approx(lower_bound(values, population=200, lowest=0.0, alpha=ALPHA), abs=0.03)
    assert low < float(np.nanmean(sparse)) < upper_bound(sparse, population=600, highest=1.0, alpha=ALPHA)
    nothing = np.full(20, np.nan)
    assert lower_bound(nothing, population=20, lowest=0.0, alpha=ALPHA) == 0.0
    assert first_refuted(nothing, population=20, claim=0.2, lowest=0.0, alpha=ALPHA) is None


def test_looking_after_every_image_keeps_the_error_rate_where_a_fixed_interval_does_not() -> None:
    random = np.random.default_rng(7)
    population = random.beta(1, 3, 100).round(5)
    mean, alpha = float(population.mean()), 0.1
    orders = np.array([random.permutation(population) for _ in range(1500)])
    # the worst case: the threshold is the mean itself
    capital = log_capital(orders, population=100, claim=mean - 1e-12, lowest=0.0)[:, :-1]
    wrong = (capital >= -math.log(alpha)).any(axis=1).mean()
    assert wrong <= alpha
    assert wrong > 0.01  # it does decide, now and then
    seen = np.arange(1, 101)
    means = orders.cumsum(axis=1) / seen
    spread = np.sqrt(np.maximum((orders**2).cumsum(axis=1) / seen - means**2, 1e-12) * seen / np.maximum(seen - 1, 1))
    error = spread / np.sqrt(seen) * np.sqrt(1 - seen / 100)
    reach = stats.t.ppf(1 - alpha, np.maximum(seen - 1, 1))
    # from the tenth image on, and leaving out the last, where it is exact
    naive = (means - reach * error > mean)[:, 9:-1].any(axis=1).mean()
    assert naive > 2 * alpha


@pytest.mark.parametrize(
    ("values", "population", "expected"),
    [([0.1, 0.2, 0.3], 2, "at most 2 values"), ([0.1, -0.2], 5, "values of at least 0")],
)
def test_an_impossible_request_is_refused(values: list[float], population: int, expected: str) -> None:
    with pytest.raises(ShapeError, match=expected):
        log_capital(np.array(values), population=population, claim=0.5, lowest=0.0)
