"""Pearson correlation and channel reduction of maps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

import reference
from auditcore.errors import ShapeError
from auditcore.metrics.reduction import reduce_channels
from auditcore.metrics.similarity import pearson


def maps(*shape: int, seed: int = 4) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def half_mask(images: int, height: int, width: int) -> Tensor:
    return torch.rand(images, 1, height, width, generator=torch.Generator().manual_seed(5)) < 0.5


def everything(height: int, width: int) -> Tensor:
    return torch.ones(1, 1, height, width, dtype=torch.bool)


def related(images: int, channels: int, side: int) -> tuple[Tensor, Tensor]:
    first = maps(images, channels, side, side)
    return first, first + maps(images, channels, side, side, seed=6) + 3


@pytest.mark.parametrize("channels", [1, 3])
def test_pearson_equals_its_definition_and_scipy(channels: int) -> None:
    first, second = related(5, channels, 12)
    mask = half_mask(5, 12, 12)
    result = pearson(first, second, mask)
    assert result.dtype == torch.float32
    for image in range(5):
        chosen = mask[image].expand(channels, 12, 12)
        a, b = first[image][chosen].double().numpy(), second[image][chosen].double().numpy()
        assert result[image].item() == pytest.approx(reference.pearson(a.tolist(), b.tolist()), abs=1e-6)
        assert result[image].item() == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    scale=st.floats(1e-3, 1e3),
    offset=st.floats(-5, 5),
    sign=st.sampled_from([-1, 1]),
    shrink=st.sampled_from([1.0, 1e-25]),
)
def test_pearson_ignores_scale_offset_and_neighbors(scale: float, offset: float, sign: int, shrink: float) -> None:
    first, second = related(3, 1, 8)
    mask = half_mask(3, 8, 8)
    expected = sign * pearson(first, second, mask)
    # maps of 1e-25 are ordinary gradients of a saturated softmax; their squares vanish in float32
    changed = pearson(shrink * first, sign * scale * (second + offset), mask)
    torch.testing.assert_close(changed, expected, atol=2e-4, rtol=0)
    assert torch.equal(pearson(first[1:2], second[1:2], mask[1:2]), pearson(first, second, mask)[1:2])


def test_pearson_of_equal_maps_is_one_and_never_more() -> None:
    # float64, where a sum of squares can round to more than 1
    first = maps(64, 3, 16, 16).double()
    result = pearson(first, first, everything(16, 16))
    torch.testing.assert_close(result, torch.ones(64).double())
    assert result.max() <= 1


def test_pixels_outside_the_mask_are_ignored() -> None:
    first, second = related(2, 3, 8)
    mask = half_mask(2, 8, 8)
    spoiled = torch.where(mask, second, torch.full_like(second, math.inf))
    torch.testing.assert_close(pearson(first, spoiled, mask), pearson(first, second, mask))


@pytest.mark.parametrize("level", [0.0, 0.3, 1e-12, -7e5])
def test_a_constant_map_is_undefined_not_zero(level: float) -> None:
    first = maps(1, 3, 16, 16)
    constant = torch.full_like(first, level)
    noisy = constant * (1 + 1e-7 * maps(1, 3, 16, 16, seed=7))
    for flat in (constant, noisy):
        assert pearson(first, flat, everything(16, 16)).isnan().all()
        assert pearson(flat, first, everything(16, 16)).isnan().all()


def test_a_map_that_is_constant_only_outside_the_mask_is_defined() -> None:
    first = maps(1, 1, 8, 8)
    second = torch.zeros(1, 1, 8, 8)
    second[..., :4] = first[..., :4]
    left = everything(8, 8).clone()
    left[..., 4:] = False
    torch.testing.assert_close(pearson(first, second, left), torch.ones(1))
    assert pearson(first, second, ~left).isnan().all()


def test_a_single_hot_pixel_is_not_constant() -> None:
    sparse = torch.zeros(1, 1, 224, 224)
    sparse[0, 0, 3, 5] = 1e-6
    torch.testing.assert_close(pearson(sparse, sparse, everything(224, 224)), torch.ones(1))


def test_an_empty_mask_is_undefined() -> None:
    first, second = related(2, 1, 8)
    assert pearson(first, second, torch.zeros(2, 1, 8, 8, dtype=torch.bool)).isnan().all()


def test_pearson_refuses_shapes_that_do_not_fit() -> None:
    with pytest.raises(ShapeError) as caught:
        pearson(maps(2, 3, 8, 8), maps(2, 1, 8, 8), everything(8, 8))
    assert (caught.value.expected, caught.value.actual) == ((2, 3, 8, 8), (2, 1, 8, 8))
    with pytest.raises(ShapeError, match="mask") as caught:
        pearson(maps(2, 3, 8, 8), maps(2, 3, 8, 8), torch.ones(2, 3, 8, 8, dtype=torch.bool))
    assert caught.value.actual == (2, 3, 8, 8)


@pytest.mark.parametrize("how", ["sum", "mean", "max_abs"])
def test_reductions_equal_their_definition(how: str) -> None:
    attributions = maps(2, 3, 5, 6)
    reduced = reduce_channels(attributions, how)
    assert reduced.shape == (2, 1, 5, 6)
    for image in range(2):
        expected = reference.reduce_channels(attributions[image].double().numpy(), how)
        np.testing.assert_allclose(reduced[image, 0], expected, atol=1e-6)


def test_no_reduction_keeps_channels_and_signs() -> None:
    attributions = maps(2, 3, 5, 6)
    assert torch.equal(reduce_channels(attributions, "none"), attributions)
    assert reduce_channels(-attributions.abs(), "sum").max() < 0
    assert reduce_channels(-attributions.abs(), "max_abs").min() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_maps_stay_as_they_are(dtype: torch.dtype) -> None:
    a, b = (torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=dtype) for seed in (0, 1))
    before = a.clone(), b.clone()
    pearson(a, b, torch.ones_like(a[:, :1], dtype=torch.bool))
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])
