"""Spearman correlation of maps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import reference
from auditcore.errors import ShapeError
from auditcore.metrics.rank_correlation import average_ranks, spearman


def maps(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tied(*shape: int, seed: int = 1) -> Tensor:
    """Few different values, and two kinds of zero."""
    rounded = (2 * maps(*shape, seed=seed)).round() / 2
    return torch.where(rounded == 0, torch.copysign(rounded, maps(*shape, seed=seed + 50)), rounded)


@pytest.mark.parametrize("values", [maps(3, 40), tied(3, 40), torch.ones(3, 40)], ids=["distinct", "tied", "equal"])
def test_ranks_agree_with_scipy(values: Tensor) -> None:
    np.testing.assert_array_equal(average_ranks(values), stats.rankdata(values.numpy(), axis=1))


@pytest.mark.parametrize("kind", [maps, tied])
@pytest.mark.parametrize("channels", [1, 3])
def test_spearman_equals_its_definition_and_scipy(channels: int, kind) -> None:  # noqa: ANN001 - a function
    a = kind(4, channels, 6, 6)
    b = kind(4, channels, 6, 6, seed=2) + a.round()
    found = spearman(a, b)
    for image in range(4):
        first, second = a[image].double().flatten(), b[image].double().flatten()
        expected = reference.spearman(first.tolist(), second.tolist())
        assert found[image].item() == pytest.approx(expected, abs=1e-12)
        assert found[image].item() == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)


def test_only_the_order_counts() -> None:
    a, b = maps(3, 1, 6, 6), maps(3, 1, 6, 6, seed=2)
    torch.testing.assert_close(spearman(a.exp(), b), spearman(a, b))
    torch.testing.assert_close(spearman(-a, b), -spearman(a, b))
    torch.testing.assert_close(spearman(a, 7 * a.double() ** 3), torch.ones(3).double())
    assert torch.equal(spearman(a[1:2], b[1:2]), spearman(a, b)[1:2])


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_constant_map_is_undefined_not_zero(value: float) -> None:
    flat = torch.full((1, 1, 6, 6), value)
    noisy = flat * (1 + 1e-7 * maps(1, 1, 6, 6, seed=3))
    for constant in (flat, noisy):
        assert spearman(maps(1, 1, 6, 6), constant).isnan().all()
        assert spearman(constant, maps(1, 1, 6, 6)).isnan().all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_map_that_is_not_finite_is_undefined(value: float) -> None:
    spoiled = maps(2, 1, 6, 6)
    spoiled[1, 0, 3, 3] = value
    assert spearman(spoiled, maps(2, 1, 6, 6, seed=2)).isnan().tolist() == [False, True]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        spearman(maps(2, 3, 4, 4), maps(2, 1, 4, 4))
    assert caught.value.actual == (2, 1, 4, 4)
