"""Exact k, ties that no position decides, and top-k overlap."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import braycurtis
from scipy.stats import rankdata
from sklearn.metrics import precision_score, top_k_accuracy_score
from torch import Tensor
from torch.nn.functional import interpolate

import reference
from auditcore.errors import ShapeError
from auditcore.metrics.ranking import rank_descending, top_k_mask, top_k_overlap


def uniform(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def everything(values: Tensor) -> Tensor:
    return torch.ones_like(values, dtype=torch.bool)


def sparse(images: int, support: int, seed: int, positions: int = 224 * 224) -> Tensor:
    """Maps with `support` equal positive values at random positions."""
    maps = torch.zeros(images, positions)
    return maps.scatter(1, uniform(images, positions, seed=seed).argsort(dim=1)[:, :support], 1.0)


tied_values = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=12, max_size=12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(values=tied_values, seed=st.integers(0, 1000))
def test_ranking_equals_its_definition(values: list[float], seed: int) -> None:
    ties = uniform(1, 12, seed=seed)
    ranked = rank_descending(torch.tensor([values]), ties)
    assert ranked[0].tolist() == reference.ranking(values, ties[0].tolist())


def test_ranking_without_ties_agrees_with_numpy() -> None:
    values = uniform(3, 50, seed=1) - 0.5
    ranked = rank_descending(values, uniform(3, 50, seed=2))
    np.testing.assert_array_equal(ranked, np.argsort(-values.numpy(), axis=1))


def test_ties_are_ordered_by_chance_not_by_position() -> None:
    values = torch.zeros(400, 20)
    first = rank_descending(values, uniform(400, 20, seed=3))[:, 0]
    counts = torch.bincount(first, minlength=20)
    # 400 draws of 20 positions: 20 expected each, 5 sigma is 22
    assert counts.min() > 0
    assert counts.max() < 42


@settings(max_examples=80, deadline=None, derandomize=True)
@given(values=tied_values, k=st.integers(0, 12), seed=st.integers(0, 1000))
def test_top_k_is_exactly_k_and_the_head_of_the_ranking(values: list[float], k: int, seed: int) -> None:
    ties = uniform(1, 12, seed=seed)
    mask = top_k_mask(torch.tensor([values]), k, ties)
    assert int(mask.sum()) == k
    assert set(mask[0].nonzero().flatten().tolist()) == set(reference.ranking(values, ties[0].tolist())[:k])


def test_every_image_may_have_its_own_k() -> None:
    values, ties = uniform(4, 30, seed=4).round(decimals=1), uniform(4, 30, seed=5)
    k = torch.tensor([0, 1, 17, 30])
    mask = top_k_mask(values, k, ties)
    assert mask.sum(dim=1).tolist() == k.tolist()
    for image in range(4):
        assert torch.equal(
            mask[image : image + 1], top_k_mask(values[image : image + 1], int(k[image]), ties[image : image + 1])
        )


def test_a_sparse_map_does_not_select_everything() -> None:
    # a quantile threshold of this map is 0, and `>= 0` would take all 50176 pixels
    values = sparse(2, 800, seed=6)
    mask = top_k_mask(values, 1000, uniform(2, 224 * 224, seed=7))
    assert mask.sum(dim=1).tolist() == [1000, 1000]
    assert (mask & (values > 0)).sum(dim=1).tolist() == [800, 800]


@pytest.mark.parametrize("k", [-1, 13])
def test_a_k_out_of_range_is_refused(k: int) -> None:
    with pytest.raises(ShapeError, match="k from 0 to 12") as caught:
        top_k_mask(torch.rand(2, 12), k, torch.rand(2, 12))
    assert caught.value.actual == k


def test_a_missing_tie_breaker_is_refused() -> None:
    for function in (rank_descending, lambda values, ties: top_k_mask(values, 3, ties)):
        with pytest.raises(ShapeError) as caught:
            function(torch.rand(2, 12), torch.rand(2, 11))
        assert (caught.value.expected, caught.value.actual) == ((2, 12), (2, 11))


pairs_of_maps = given(
    a=tied_values,
    b=tied_values,
    k=st.integers(1, 15),
    mask=st.lists(st.booleans(), min_size=12, max_size=12),
)


@settings(max_examples=80, deadline=None, derandomize=True)
@pairs_of_maps
def test_overlap_equals_its_definition(a: list[float], b: list[float], k: int, mask: list[bool]) -> None:
    chosen = torch.tensor([mask])
    result = top_k_overlap(torch.tensor([a]), torch.tensor([b]), chosen, k)
    parts = [part[0][chosen[0]].tolist() for part in (torch.tensor([a]), torch.tensor([b]))]
    value, k_used, chance = reference.top_k_overlap(parts[0], parts[1], k)
    np.testing.assert_allclose(result.values, [value], atol=1e-6)
    assert result.k_used.tolist() == [k_used]
    np.testing.assert_allclose(result.chance, [chance], atol=1e-6)


@settings(max_examples=80, deadline=None, derandomize=True)
@pairs_of_maps
def test_overlap_is_symmetric_and_a_share(a: list[float], b: list[float], k: int, mask: list[bool]) -> None:
    first, second, chosen = (torch.tensor([each]) for each in (a, b, mask))
    result, turned = top_k_overlap(first, second, chosen, k), top_k_overlap(second, first, chosen, k)
    for one, other in zip(result, turned, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    if result.k_used.item():
        assert 0 <= result.values.item() <= 1
        assert result.k_used.item() / sum(mask) - 1e-6 <= result.chance.item() <= 1


@settings(max_examples=40, deadline=None, derandomize=True)
@given(a=tied_values, b=tied_values, k=st.integers(1, 15))
def test_the_level_of_chance_is_the_mean_over_shuffled_maps(a: list[float], b: list[float], k: int) -> None:
    first, second = torch.tensor([a[:6]]).double(), torch.tensor([b[:6]]).double()
    every = torch.tensor(list(itertools.permutations(range(6))))
    shuffled = top_k_overlap(first.expand(len(every), -1), second[0][every], everything(every), k)
    whole = top_k_overlap(first, second, everything(first), k)
    assert torch.equal(shuffled.chance, whole.chance.expand(len(every))) or whole.chance.isnan()
    np.testing.assert_allclose(shuffled.values.mean(), whole.chance.item(), rtol=1e-12)


@pytest.mark.parametrize("levels", [2, 5, 40, 1000])
def test_unrelated_maps_overlap_by_chance_however_tied_they_are(levels: int) -> None:
    # an upsampled CAM in steps: the k-th value is one of many equal ones
    first = (uniform(400, 1000, seed=18) * levels).floor() + 1
    second = (uniform(400, 1000, seed=19) * levels).floor() + 1
    result = top_k_overlap(first, second, everything(first), 100)
    error = (result.values - result.chance).std() / 20
    assert abs((result.values - result.chance).mean().item()) < 4 * error
    if levels == 1000:
        assert result.chance.mean().item() == pytest.approx(0.1, abs=0.01)


def test_the_level_of_chance_without_ties_is_the_share_of_k() -> None:
    first, second = uniform(3, 500, seed=20).argsort(dim=1) + 1.0, uniform(3, 500, seed=21).argsort(dim=1) + 1.0
    result = top_k_overlap(first, second, everything(first), 50)
    assert result.chance.tolist() == pytest.approx([0.1] * 3, rel=1e-6)


@pytest.mark.parametrize("k", [1, 7, 100, 1000])
@pytest.mark.parametrize("cells", [4, 7, 14])
def test_equal_maps_of_cells_overlap_completely(cells: int, k: int) -> None:
    # occlusion, ablation and SHAP on cells: the k-th value is that of a whole cell; two draws of ties gave .96
    coarse = uniform(20, 1, cells, cells, seed=cells) - 0.3
    maps = interpolate(coarse, size=(224, 224), mode="nearest").flatten(1)
    assert top_k_overlap(maps, maps.clone(), everything(maps), k).values.tolist() == [1.0] * 20
    double = maps.double()
    assert top_k_overlap(double, double.clone(), everything(maps), k).values.tolist() == [1.0] * 20


@settings(max_examples=60, deadline=None, derandomize=True)
@given(levels=st.lists(st.integers(1, 6), min_size=24, max_size=24), k=st.integers(1, 11))
def test_only_the_order_of_values_counts(levels: list[int], k: int) -> None:
    first, second = torch.tensor([levels[:12]]).double(), torch.tensor([levels[12:]]).double()
    mask = everything(first)
    plain = top_k_overlap(first, second, mask, k)
    for grown in (lambda x: x**3, lambda x: (x / 2).exp(), lambda x: 7 * x + 100):
        for one, other in zip(top_k_overlap(grown(first), second, mask, k), plain, strict=True):
            torch.testing.assert_close(one, other, equal_nan=True)


def memberships(maps: Tensor, k: int) -> np.ndarray:
    """Degree of membership in the top k, from scipy's ranks."""
    first, last = (rankdata(-maps.numpy(), method=method, axis=1) for method in ("min", "max"))
    return np.clip((k - first + 1) / (last - first + 1), 0, 1)


@pytest.mark.parametrize("levels", [2, 3, 10, 200])
def test_overlap_is_the_bray_curtis_similarity_of_scipys_ranks(levels: int) -> None:
    first = (uniform(30, 300, seed=40) * levels).floor() + 1
    second = ((first / levels + uniform(30, 300, seed=41)) * levels).floor() + 1
    result = top_k_overlap(first, second, everything(first), 40)
    pairs = zip(memberships(first, 40), memberships(second, 40), strict=True)
    np.testing.assert_allclose(result.values, [1 - braycurtis(m_a, m_b) for m_a, m_b in pairs], rtol=1e-6)


def test_overlap_without_ties_is_the_precision_of_scikit_learn() -> None:
    first = uniform(20, 400, seed=42)
    second = first + uniform(20, 400, seed=43)
    result = top_k_overlap(first, second, everything(first), 60)
    tops = [memberships(maps, 60).astype(int) for maps in (first, second)]
    expected = [precision_score(a, b) for a, b in zip(*tops, strict=True)]
    np.testing.assert_allclose(result.values, expected, rtol=1e-6)
    assert 0.3 < result.values.mean() < 0.9


def test_overlap_agrees_with_scikit_learn_for_one_relevant_position() -> None:
    # top-k accuracy: is the one true position among the k largest scores?
    scores = uniform(200, 10, seed=8)
    truth = uniform(200, 10, seed=9).argmax(dim=1)
    chosen = top_k_mask(scores, 3, uniform(200, 10, seed=10))
    hit = chosen.gather(1, truth[:, None]).float().mean().item()
    assert hit == pytest.approx(top_k_accuracy_score(truth, scores, k=3, labels=range(10)))


def test_equal_maps_without_ties_overlap_completely() -> None:
    maps = uniform(3, 500, seed=11)
    result = top_k_overlap(maps, maps, everything(maps), 50)
    assert result.values.tolist() == [1, 1, 1]
    torch.testing.assert_close(result.chance, torch.full((3,), 0.1))


def test_unrelated_sparse_maps_overlap_by_chance_only() -> None:
    # k = 1000 > 100 non-zero pixels: filling up by position gives 0.885
    first, second = sparse(40, 100, seed=14), sparse(40, 100, seed=15)
    result = top_k_overlap(first, second, everything(first), 1000)
    assert result.k_used.tolist() == [100] * 40
    assert result.values.mean() < 0.01
    torch.testing.assert_close(result.chance, torch.full((40,), 100 / 224**2))


def test_k_stays_below_the_number_of_masked_positions() -> None:
    first, second = uniform(1, 100, seed=22), uniform(1, 100, seed=23)
    mask = torch.zeros(1, 100, dtype=torch.bool)
    mask[:, :7] = True
    result = top_k_overlap(first, second, mask, 1000)
    assert result.k_used.item() == 6
    assert result.chance.item() == pytest.approx(6 / 7)
    outside = torch.where(mask, second, torch.full_like(second, 1e9))
    assert torch.equal(top_k_overlap(first, outside, mask, 1000).values, result.values)


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_a_constant_map_has_no_top(level: float) -> None:
    first, flat = uniform(1, 64, seed=26), torch.full((1, 64), level)
    for pair in ((first, flat), (flat, first)):
        result = top_k_overlap(*pair, everything(first), 10)
        assert result.values.isnan().all()
        assert result.chance.isnan().all()
        assert result.k_used.item() == 0


def test_an_undefined_image_does_not_disturb_its_neighbors() -> None:
    first, second = uniform(3, 64, seed=29), uniform(3, 64, seed=30)
    second[1] = 0
    mask = everything(first)
    mask[2] = False
    together = top_k_overlap(first, second, mask, 10)
    assert together.values.isnan().tolist() == [False, True, True]
    alone = top_k_overlap(first[:1], second[:1], mask[:1], 10)
    assert torch.equal(alone.values, together.values[:1])


def test_overlap_refuses_shapes_that_do_not_fit() -> None:
    maps = torch.rand(2, 9)
    with pytest.raises(ShapeError) as caught:
        top_k_overlap(maps, torch.rand(2, 8), everything(maps), 3)
    assert (caught.value.expected, caught.value.actual) == ((2, 9), (2, 8))
