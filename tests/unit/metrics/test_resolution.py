"""Differences that are rounding only are ties; nothing else is, whatever an outlier does."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import reference
from auditcore.metrics.ranking import rank_descending
from auditcore.metrics.rounded_relevance import core_size, resolved_relevance

ROUNDING = 2.0**-23
"""Relative distance of neighbors in float32, at most."""


def normal(images: int, positions: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(images, positions, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_are_those_of_the_replica(dtype: torch.dtype) -> None:
    maps = normal(6, 300, 0, dtype)
    maps[1] *= torch.exp(8 * normal(1, 300, 1, dtype)[0])
    maps[2, 5] *= 1e6
    maps[3] = 0
    # below the smallest normal number of float32, and sparse
    maps[4] *= 1e-40
    maps[5, :280] = 0
    found = resolved_relevance(maps)
    assert found.dtype == dtype
    for one, own in zip(found, maps, strict=True):
        assert one.tolist() == reference.resolved(own.tolist())


@given(values=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=40))
def test_steps_never_turn_an_order_around(values: list[float]) -> None:
    maps = torch.tensor([values])
    steps = resolved_relevance(maps)[0]
    assert steps.tolist() == reference.resolved(values)
    assert torch.equal(resolved_relevance(-maps)[0], -steps)
    assert bool((steps.abs() < 2**24).all())
    ascending = torch.tensor(sorted(values)).unique()
    assert bool((resolved_relevance(maps)[0][maps[0].argsort()].diff() >= 0).all())
    assert ascending.numel() >= steps.unique().numel()


def test_what_rounding_moves_is_a_tie() -> None:
    # 40 roundings up and down, at every size from a thousandth of the scale to ten thousand times of it
    sizes = 10.0 ** torch.linspace(-3, 4, 15)
    middle = torch.tensor([1.0 + 2.0**-9]) * sizes
    core = torch.ones(1, 400)
    moved = torch.stack([middle * (1 + turns * ROUNDING) for turns in (-20, 0, 20)])
    steps = resolved_relevance(torch.cat([core.expand(3, -1), moved], dim=1))[:, 400:]
    apart = (steps != steps[1]).any(dim=0)
    # a step is 128 roundings wide, so that one value in three may lie so near an end of it
    assert int(apart.sum()) <= 6
    # a difference of two steps is never a tie, above the scale as below it
    for size in sizes.tolist():
        step = 2.0 ** (max(math.frexp(size)[1] - 1, 0) - 16)
        pair = torch.tensor([[size, size + 2 * step]], dtype=torch.float64)
        first, second = resolved_relevance(torch.cat([core.double(), pair], dim=1))[0, 400:].tolist()
        assert first < second


def test_plateaus_stay_plateaus_under_any_rounding() -> None:
    # as in occlusion: a few values, each for many pixels, and each pixel with its own rounding error
    levels = normal(1, 1000, 4)[0]
    turns = torch.randint(-1, 2, (2, 20, 1000), generator=torch.Generator().manual_seed(3))
    rounded = (levels * (1 + turns * ROUNDING)).flatten(1)
    steps = resolved_relevance(rounded).view(2, 20, 1000)
    whole = (steps == steps[0, 0]).all(dim=1).all(dim=0)
    # a plateau that lies across the end of a step, 128 last digits long, falls into two
    assert 0.95 < float(whole.double().mean()) < 1
    kept = whole.expand(20, -1).flatten()
    ties = torch.rand(1, int(kept.sum()), generator=torch.Generator().manual_seed(2))
    first, second = (rank_descending(resolved_relevance(one[None])[:, kept], ties) for one in rounded)
    assert torch.equal(first, second)
    # without ties, rounding would decide
    first, second = (rank_descending(one[None, kept], ties) for one in rounded)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("factor", [1e6, -1e6, 1e12])
@pytest.mark.parametrize("positions", [64, 196, 5000])
@pytest.mark.parametrize("where", ["largest", "median", "smallest"])
def test_an_outlier_does_not_change_the_order_of_the_others(positions: int, where: str, factor: float) -> None:
    for seed in range(5):
        maps = normal(1, positions, seed)
        ties = torch.rand(1, positions, generator=torch.Generator().manual_seed(seed))
        by_size = maps[0].abs().argsort()
        place = int(by_size[{"largest": -1, "median": positions // 2, "smallest": 0}[where]])
        outlier = maps.clone()
        outlier[0, place] = factor * maps.abs().max()
        before, after = (rank_descending(resolved_relevance(one), ties)[0].tolist() for one in (maps, outlier))
        assert after[0 if factor > 0 else -1] == place
        assert [at for at in after if at != place] == [at for at in before if at != place]
        # and the others are told apart as before: steps of the largest value would make one of all
        assert resolved_relevance(outlier).unique().numel() > 0.9 * positions


def test_remains_of_large_terms_are_ties() -> None:
    # sums whose terms cancel keep their rounding, which is that of the terms
    terms = normal(1, 1000, 5)
    noise = normal(2, 200, 6) * 0.3 * ROUNDING
    steps = [resolved_relevance(torch.cat([terms, own[None]], dim=1))[0, 1000:] for own in noise]
    assert torch.equal(steps[0], steps[1])


def test_a_map_of_zeros_resolves_nothing() -> None:
    assert resolved_relevance(torch.zeros(1, 4)).tolist() == [[0.0] * 4]
    assert reference.resolved([0.0] * 4) == [0.0] * 4


def test_maps_that_are_not_finite_do_not_affect_others() -> None:
    maps = normal(3, 50, 7)
    expected = resolved_relevance(maps[2:])
    maps[0, 3], maps[1, 4] = math.nan, math.inf
    assert torch.equal(resolved_relevance(maps)[2:], expected)


def test_one_in_ten_lies_at_the_scale() -> None:
    assert core_size(torch.tensor([0, 1, 10, 11, 30, 50176])).tolist() == [1, 1, 1, 2, 3, 5018]
