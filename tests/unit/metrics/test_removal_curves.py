"""Counts of pixels and areas of the curves along which they go."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc
from torch import Tensor

import reference
from auditcore.counts.removal_steps import proportional_step, removal_counts
from auditcore.errors import ShapeError
from auditcore.metrics.ranking import rank_descending
from auditcore.metrics.removal_curves import (
    imputed_count,
    insertion_deletion_auc,
    pixel_flipping_aoc,
    relative_curve,
    removal_rank,
    road_accuracy,
    road_gain,
    road_probability,
)


def uniform(*shape: int, seed: int = 3) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("paper_px", "side", "expected"), [(512, 224, 512), (224, 224, 224), (512, 32, 10), (224, 299, 399), (224, 8, 1)]
)
def test_steps_grow_with_the_image(paper_px: int, side: int, expected: int) -> None:
    assert proportional_step(paper_px, side, side) == expected


@settings(max_examples=60, deadline=None, derandomize=True)
@given(pixels=st.integers(1, 400), step=st.integers(1, 500), percent=st.integers(1, 100))
def test_counts_equal_their_definition(pixels: int, step: int, percent: int) -> None:
    counts = removal_counts(pixels, step, percent / 100)
    assert list(counts) == reference.removal_counts(pixels, step, str(percent / 100))


def test_the_last_step_removes_exactly_the_share() -> None:
    # 0.2 * 50176 = 10035.2: 19 steps of 512 and one of 307
    counts = removal_counts(224 * 224, 512, 0.2)
    assert (len(counts), counts[1], counts[-2:]) == (21, 512, (19 * 512, 10035))
    assert removal_counts(64, 16) == (0, 16, 32, 48, 64)


@pytest.mark.parametrize(
    ("share", "pixels", "expected"),
    # binary 0.57 * 100 is 56.99999999999999, binary 0.29 * 100 is 28.999999999999996
    [(0.57, 100, 57), (0.29, 100, 29), (0.9, 224 * 224, 45158), (0.1, 9, 0), (0.99, 64, 63)],
)
def test_imputed_pixels_are_the_floor_of_the_share_as_written(share: float, pixels: int, expected: int) -> None:
    assert imputed_count(share, pixels) == expected


def test_ranks_are_places_in_the_order() -> None:
    values, ties = uniform(3, 50).round(decimals=1), uniform(3, 50, seed=4)
    order = rank_descending(values, ties)
    rank = removal_rank(order)
    for image in range(3):
        expected = reference.ranking(values[image].tolist(), ties[image].tolist())
        assert [expected.index(pixel) for pixel in range(50)] == rank[image].tolist()


def test_relative_curves_equal_their_definition() -> None:
    curves, originals = uniform(3, 9), torch.tensor([0.6, 0.05, 1e-9])
    relative = relative_curve(curves, originals)
    for image in range(3):
        expected = reference.relative_curve(curves[image].tolist(), originals[image].item())
        np.testing.assert_allclose(relative[image], expected, rtol=1e-6)
    # a rise above the original is no merit
    assert relative[1].max() == 1
    assert relative[2].isnan().all()


def test_pixel_flipping_equals_its_definition() -> None:
    counts = (0, 7, 14, 21, 23)
    curves = uniform(4, len(counts))
    areas = pixel_flipping_aoc(curves, counts)
    for image in range(4):
        expected = reference.pixel_flipping_aoc(curves[image].tolist(), counts)
        assert areas[image].item() == pytest.approx(expected, rel=1e-6)
        assert areas[image].item() == pytest.approx(1 - auc(counts, curves[image].double()) / 23, rel=1e-6)


def test_pixel_flipping_of_even_steps_is_the_published_codes() -> None:
    # Tetkova's compare_explanations.py: 1 - integral with dx = 1/(m-1)
    curves = uniform(3, 21)
    expected = 1 - np.trapezoid(curves.double(), dx=1 / 20, axis=1)
    np.testing.assert_allclose(pixel_flipping_aoc(curves, range(0, 21 * 512, 512)), expected, rtol=1e-6)


def test_the_area_over_a_curve_lies_between_0_and_1() -> None:
    counts = (0, 3, 5)
    curves = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(pixel_flipping_aoc(curves, counts), [0, 1 - 1.5 / 5, 1], atol=1e-7)


def test_insertion_and_deletion_equal_their_definition() -> None:
    curves = uniform(4, 12)
    areas = insertion_deletion_auc(curves)
    for image in range(4):
        expected = reference.insertion_deletion_auc(curves[image].tolist())
        assert areas[image].item() == pytest.approx(expected, rel=1e-6)
        assert areas[image].item() == pytest.approx(auc(np.linspace(0, 1, 12), curves[image].double()), rel=1e-6)


def test_road_averages_over_shares() -> None:
    morf, lerf = uniform(3, 5), uniform(3, 5, seed=5)
    np.testing.assert_allclose(road_probability(morf), [math.fsum(row) / 5 for row in morf.tolist()], rtol=1e-6)
    expected = [
        math.fsum(low) / 5 - math.fsum(high) / 5 for low, high in zip(lerf.tolist(), morf.tolist(), strict=True)
    ]
    np.testing.assert_allclose(road_gain(lerf, morf), expected, rtol=1e-5)
    predicted = torch.tensor([[True, True, False], [False, False, False]])
    np.testing.assert_allclose(road_accuracy(predicted), [2 / 3, 0], rtol=1e-6)


def test_one_undefined_step_makes_one_score_undefined() -> None:
    curves = uniform(2, 6)
    curves[0, 3] = torch.nan
    for areas in (
        insertion_deletion_auc(curves),
        pixel_flipping_aoc(curves, range(6)),
        road_probability(curves),
        road_gain(curves, uniform(2, 6)),
    ):
        assert areas.isnan().tolist() == [True, False]


def test_curves_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="6 samples"):
        pixel_flipping_aoc(uniform(2, 5), range(6))
    with pytest.raises(ShapeError, match="at least 2"):
        pixel_flipping_aoc(uniform(2, 1), (0,))
    with pytest.raises(ShapeError, match="2 samples"):
        insertion_deletion_auc(uniform(2, 1))
    with pytest.raises(ShapeError, match="originals"):
        relative_curve(uniform(2, 5), uniform(3))
    with pytest.raises(ShapeError) as caught:
        road_gain(uniform(2, 5), uniform(2, 4))
    assert (caught.value.expected, caught.value.actual) == ((2, 5), (2, 4))
    for score in (road_probability, road_gain):
        with pytest.raises(ShapeError, match="one share"):
            score(*[torch.empty(2, 0)] * (2 if score is road_gain else 1))
    with pytest.raises(ShapeError, match="one share"):
        road_accuracy(torch.empty(2, 0, dtype=torch.bool))
    for pixels, step in ((0, 1), (5, 0)):
        with pytest.raises(ShapeError, match="at least 1 pixel"):
            removal_counts(pixels, step)
