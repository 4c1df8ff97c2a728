"""Paired differences of models: by hand, signs, gaps, and the same resamples as every other interval."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from made_up_audits import report, row, shard

ONE = (0.1, 0.5, None, 0.9, 0.3)
TWO = (0.4, 0.6, 0.2, None, 0.9)
IMAGES = {index: [1] for index in range(5)}


def test_a_difference_is_the_later_model_minus_the_earlier_on_images_both_have() -> None:
    (found,) = report(
        shard("one", IMAGES, row("gradient", ONE)), shard("two", IMAGES, row("gradient", TWO))
    ).comparisons
    mean, std, sem = reference.mean_std_sem([0.4 - 0.1, 0.6 - 0.5, 0.9 - 0.3])
    assert (found.model, found.against, found.n) == ("two", "one", 3)
    assert (found.difference, found.std) == (pytest.approx(mean, rel=1e-6), pytest.approx(std, rel=1e-6))
    # Student's t with two degrees of freedom
    assert found.ci == pytest.approx((mean - 4.302653 * sem, mean + 4.302653 * sem), rel=1e-6)


def test_the_interval_is_paired() -> None:
    # the second model is better by the same little on images that differ much
    base = np.random.default_rng(0).uniform(0, 1, 12)
    better = base + np.linspace(0.009, 0.011, 12)
    found = report(
        shard("one", {i: [1] for i in range(12)}, row("gradient", base.tolist())),
        shard("two", {i: [1] for i in range(12)}, row("gradient", better.tolist())),
    )
    (difference,) = found.comparisons
    assert difference.ci is not None
    assert 0.009 < difference.ci[0] < 0.01 < difference.ci[1] < 0.011
    one, two = found.results
    assert one.ci is not None
    assert two.ci is not None
    assert two.ci[0] < one.ci[1]


def test_resamples_are_those_of_the_results() -> None:
    # against a model of zeros, the difference is the value itself
    values = np.random.default_rng(0).lognormal(size=9).tolist()
    images = {i: [1] for i in range(9)}
    found = report(shard("one", images, row("gradient", [0.0] * 9)), shard("two", images, row("gradient", values)))
    (difference,) = found.comparisons
    assert (difference.difference, difference.ci) == (found.results[1].mean, found.results[1].ci)


def test_every_pair_is_compared_on_what_both_have() -> None:
    found = report(
        shard("one", IMAGES, row("gradient", ONE), row("grad_cam", ONE), row(None, ONE, metric="rao_auc")),
        shard("two", IMAGES, row("gradient", TWO), row(None, TWO, metric="rao_auc")),
        shard("three", IMAGES, row("gradient", TWO), row("gradient", TWO, metric="lerf_auc", control=True)),
    ).comparisons
    assert [(one.model, one.against, one.explainer, one.metric) for one in found] == [
        ("two", "one", "gradient", "srg"),
        ("two", "one", None, "rao_auc"),
        ("three", "one", "gradient", "srg"),
        ("three", "two", "gradient", "srg"),
    ]
    # models that agree on four images may differ on others, by 2 at most
    reach = 2 * (1 - 0.025 ** (1 / 4))
    assert (found[3].difference, found[3].ci) == (0, pytest.approx((-reach, reach), rel=1e-6))


@pytest.mark.parametrize(("values", "n"), [((None, None, 0.5, None, None), 0), ((0.5, None, 0.5, None, None), 1)])
def test_too_few_pairs_have_no_interval(values: tuple[float | None, ...], n: int) -> None:
    (found,) = report(
        shard("one", IMAGES, row("gradient", ONE)), shard("two", IMAGES, row("gradient", values))
    ).comparisons
    assert (found.n, found.std, found.ci) == (n, None, None)
    assert found.difference == (None if n == 0 else 0.4)


def test_images_that_one_model_left_out_are_in_no_pair() -> None:
    (found,) = report(
        shard("one", {0: [1], 1: "wrong", 2: [1]}, row("gradient", [0.1, 0.3])),
        shard("two", {0: "wrong", 1: [1], 2: [1]}, row("gradient", [0.9, 0.5])),
    ).comparisons
    assert (found.n, found.difference) == (1, pytest.approx(0.2))


def test_copies_of_an_image_are_one_pair() -> None:
    once = report(
        shard("one", {0: [1], 1: [1], 2: [1]}, row("gradient", [0.1, 0.5, 0.2])),
        shard("two", {0: [1], 1: [1], 2: [1]}, row("gradient", [0.4, 0.6, 0.3])),
    ).comparisons
    copies = {0: 0, 1: 1, 2: 2, 3: 1, 4: 1}
    often = report(
        shard("one", IMAGES, row("gradient", [0.1, 0.5, 0.2, 0.5, 0.5]), copies=copies),
        shard("two", IMAGES, row("gradient", [0.4, 0.6, 0.3, 0.6, 0.6]), copies=copies),
    ).comparisons
    assert often == once


def test_a_difference_without_an_interval_has_a_reason() -> None:
    found = report(
        shard("one", IMAGES, row("gradient", ONE, check="sweep", metric="s_pearson", variant="rotate")),
        shard("two", IMAGES, row("gradient", ONE, check="sweep", metric="s_pearson", variant="rotate")),
    ).comparisons
    assert (found[0].difference, found[0].ci) == (0, None)
    assert found[0].ci_reason == (
        "all 4 values are equal and the metric has no range, so nothing limits the values that no image showed"
    )
