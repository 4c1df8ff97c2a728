"""Sparseness and entropy of maps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from quantus import Complexity, Sparseness
from torch import Tensor

import reference
from auditcore.metrics.complexity import entropy, gini_index

METRICS = [(gini_index, reference.gini_index), (entropy, reference.entropy)]


def maps(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("metric", "definition"), METRICS, ids=["gini_index", "entropy"])
def test_equal_to_their_definitions(metric, definition) -> None:  # noqa: ANN001 - two functions
    values = maps(5, 6, 7)
    values[0, :3] = 0  # ties, and 0 ln 0
    found = metric(values)
    for image in range(5):
        expected = definition(values[image].double().ravel().tolist())
        assert found[image].item() == pytest.approx(expected, rel=1e-12)


def test_agree_with_quantus() -> None:
    values = maps(4, 9, 8)
    nothing = np.empty((4, 1, 9, 8))
    settings = {"abs": True, "normalise": False, "disable_warnings": True}
    # Quantus writes into the array it is given
    sparse = Sparseness(**settings).evaluate_batch(x_batch=nothing, a_batch=values.abs().double().numpy().copy())
    spread = Complexity(**settings).evaluate_batch(x_batch=nothing, a_batch=values.abs().double().numpy().copy())
    np.testing.assert_allclose(gini_index(values), sparse, rtol=1e-6)  # it adds 1e-7 to every value
    np.testing.assert_allclose(entropy(values), spread, rtol=1e-9)


@pytest.mark.parametrize("scale", [1.0, -3.0, 1e-30, 1e30])
def test_ignore_sign_scale_place_and_neighbors(scale: float) -> None:
    values = maps(3, 5, 5)
    shuffled = values.flatten(1)[:, torch.randperm(25, generator=torch.Generator().manual_seed(2))].view(3, 5, 5)
    for metric, _ in METRICS:
        torch.testing.assert_close(metric(scale * shuffled), metric(values), rtol=1e-6, atol=0)
        assert torch.equal(metric(values[1:2]), metric(values)[1:2])


def test_extremes() -> None:
    alike, single = torch.full((1, 4, 5), -0.3), torch.zeros(1, 4, 5)
    single[0, 2, 3] = -7
    assert gini_index(alike).item() == pytest.approx(0, abs=1e-12)
    assert gini_index(single).item() == pytest.approx(1 - 1 / 20)
    assert entropy(alike).item() == pytest.approx(math.log(20))
    assert entropy(single).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, -math.inf])
def test_zero_and_infinite_maps_are_undefined(value: float) -> None:
    values = torch.zeros(2, 4, 4)
    values[0] = maps(4, 4)
    values[1, 1, 1] = value
    for metric, _ in METRICS:
        assert metric(values).isnan().tolist() == [False, True]
