"""Areas: sweeps' curve scores and deletion."""

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
from auditcore.errors import ShapeError
from auditcore.metrics.curves import (
    anchored_area,
    deletion_auc,
    inter_model_deletion,
    rao_auc,
    stability_ratio,
    symmetric_relevance_gain,
    trapezoid_auc,
)

X = [-0.3, -0.2, -0.15, 0.0, 0.1, 0.3]
IDENTITY = 3


def uniform(*shape: int, seed: int = 8) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_trapezoid_agrees_with_numpy_and_scikit_learn() -> None:
    curves = uniform(4, 2, 15)
    areas = trapezoid_auc(curves, 0.25)
    np.testing.assert_allclose(areas, np.trapezoid(curves.double(), dx=0.25, axis=2), rtol=1e-6)
    assert areas[0, 0].item() == pytest.approx(auc(0.25 * np.arange(15), curves[0, 0].numpy()), rel=1e-6)
    assert areas.dtype == torch.float32


@pytest.mark.parametrize("anchor", ["identity", "max"])
def test_curve_score_equals_its_definition(anchor: str) -> None:
    curves = uniform(5, len(X))
    scores = anchored_area(curves, torch.tensor(X), IDENTITY, anchor)
    for image in range(5):
        expected = reference.anchored_area(curves[image].tolist(), X, IDENTITY, anchor)
        assert scores[image].item() == pytest.approx(expected, rel=1e-6)


def test_curve_score_of_equidistant_levels_is_the_published_codes() -> None:
    # Tetkova's fig_to_num: integral of c + 1 - max(c) with dx = 1/(n-1), whatever the interval
    curves = uniform(3, 11)
    expected = np.trapezoid((curves + 1 - curves.amax(1, keepdim=True)).double(), dx=1 / 10, axis=1)
    for low, high in ((-40, 40), (0.8, 1.2)):
        scores = anchored_area(curves, torch.linspace(low, high, 11), 5, "max")
        np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_a_flat_curve_scores_one() -> None:
    curves = torch.tensor([[0.2] * len(X), [1.0] * len(X)])
    for anchor in ("identity", "max"):
        torch.testing.assert_close(anchored_area(curves, torch.tensor(X), IDENTITY, anchor), torch.ones(2))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    heights=st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6), lift=st.floats(0, 3), drop=st.floats(0.1, 1)
)
def test_curve_score_ignores_offsets_and_falls_with_every_level(heights: list[float], lift: float, drop: float) -> None:
    curve = torch.tensor([heights])
    x = torch.tensor(X)
    for anchor in ("identity", "max"):
        score = anchored_area(curve, x, IDENTITY, anchor)
        torch.testing.assert_close(anchored_area(curve + lift, x, IDENTITY, anchor), score, atol=1e-5, rtol=0)
    lower = curve.clone()
    lower[:, 1] -= drop
    assert anchored_area(lower, x, IDENTITY, "identity") < anchored_area(curve, x, IDENTITY, "identity")
    assert anchored_area(curve, x, IDENTITY, "max") <= 1 + 1e-6


def test_one_undefined_level_makes_one_score_undefined() -> None:
    curves = uniform(2, len(X))
    curves[0, 1] = torch.nan
    for anchor in ("identity", "max"):
        assert anchored_area(curves, torch.tensor(X), IDENTITY, anchor).isnan().tolist() == [True, False]


@pytest.mark.parametrize(
    ("x", "identity", "actual"), [(torch.tensor(X[:-1]), 0, (5,)), (torch.tensor(X), 6, 6), (torch.tensor(X), -1, -1)]
)
def test_curve_score_refuses_what_does_not_fit(x: Tensor, identity: int, actual: object) -> None:
    with pytest.raises(ShapeError) as caught:
        anchored_area(uniform(2, len(X)), x, identity, "identity")
    assert caught.value.actual == actual


def test_ratio_below_one_means_less_stable_than_the_prediction() -> None:
    ratio = stability_ratio(torch.tensor([0.5, 0.9, 0.5, math.nan]), torch.tensor([0.8, 0.9, 1e-9, 0.5]))
    np.testing.assert_allclose(ratio, [0.625, 1.0, math.nan, math.nan], rtol=1e-6)


def test_deletion_scores_equal_their_definitions() -> None:
    lerf, morf, rao = uniform(4, 50), uniform(4, 50, seed=9), uniform(4, 5, 50, seed=10)
    results = {
        "lerf_auc": deletion_auc(lerf),
        "rao_auc": rao_auc(rao),
        "inter_model_deletion": inter_model_deletion(lerf, rao),
        "srg": symmetric_relevance_gain(lerf, morf),
    }
    for image in range(4):
        low, high, chance = (curves[image].double().tolist() for curves in (lerf, morf, rao))
        expected = {
            "lerf_auc": reference.deletion_auc(low),
            "rao_auc": reference.rao_auc(chance),
            "inter_model_deletion": reference.inter_model_deletion(low, chance),
            "srg": reference.symmetric_relevance_gain(low, high),
        }
        for name, values in results.items():
            assert values[image].item() == pytest.approx(expected[name], abs=1e-6), name


def test_deletion_agrees_with_scikit_learn() -> None:
    curve = uniform(1, 197)
    assert deletion_auc(curve).item() == pytest.approx(auc(np.linspace(0, 1, 197), curve[0].double().numpy()), rel=1e-6)


def test_deletion_area_has_the_unit_of_a_probability_on_any_grid() -> None:
    # dx = 1/G: a curve that stays at p has area p, on 7x7 cells as on 14x14
    for cells in (49, 196):
        torch.testing.assert_close(deletion_auc(torch.full((1, cells + 1), 0.37)), torch.tensor([0.37]))


def test_keeping_the_probability_longer_is_better() -> None:
    step = torch.linspace(0, 1, 20)
    late, early = (1 - step**4)[None], (1 - step**0.25)[None]
    chance = (1 - step).expand(1, 3, 20)
    assert inter_model_deletion(late, chance) > 0 > inter_model_deletion(early, chance)
    assert symmetric_relevance_gain(late, early) > 0


def test_deletion_refuses_curves_of_different_length() -> None:
    with pytest.raises(ShapeError) as caught:
        inter_model_deletion(uniform(2, 50), uniform(2, 5, 49))
    assert caught.value.actual == (2, 5, 49)
    with pytest.raises(ShapeError):
        symmetric_relevance_gain(uniform(2, 50), uniform(2, 49))
    with pytest.raises(ShapeError, match="random order"):
        rao_auc(torch.empty(2, 0, 50))
    with pytest.raises(ShapeError, match="2 samples"):
        deletion_auc(uniform(2, 1))
