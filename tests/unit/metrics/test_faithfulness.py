"""EDDA: masks of pixels, and scores of probabilities."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler
from torch import Tensor

import reference
from auditcore.errors import ShapeError
from auditcore.metrics import faithfulness
from auditcore.metrics.faithfulness import agreement, flip, keep_mask, kept_pixels

LEAST = 1e-3
SCORES = {
    "sufficiency": (faithfulness.sufficiency, reference.sufficiency),
    "comprehensiveness": (faithfulness.comprehensiveness, reference.comprehensiveness),
    "drop_percent": tuple(
        partial(f, min_probability=LEAST) for f in (faithfulness.drop_percent, reference.drop_percent)
    ),
    "increase_percent": tuple(
        partial(f, min_probability=LEAST) for f in (faithfulness.increase_percent, reference.increase_percent)
    ),
}


def uniform(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SCORES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(original=st.floats(0, 1, width=32), changed=st.floats(0, 1, width=32))
# the float32 next to 0.001 lies above it, that of 0.01 below
@example(original=float(np.float32(LEAST)), changed=0.0)
def test_scores_equal_their_definitions(name: str, original: float, changed: float) -> None:
    score, expected = SCORES[name]
    result = score(torch.tensor([original]), torch.tensor([changed]))
    np.testing.assert_allclose(result, [expected(original, changed)], rtol=1e-5, atol=1e-6)


def test_the_signs_are_the_papers() -> None:
    original, kept, removed = torch.tensor([0.8]), torch.tensor([0.6]), torch.tensor([0.1])
    assert faithfulness.sufficiency(original, kept).item() == pytest.approx(-0.2)
    assert faithfulness.comprehensiveness(original, removed).item() == pytest.approx(0.7)
    assert faithfulness.drop_percent(original, kept, 0.01).item() == pytest.approx(25)
    assert faithfulness.increase_percent(original, kept, 0.01).item() == 0
    assert faithfulness.increase_percent(kept, original, 0.01).item() == pytest.approx(100 / 3)


@pytest.mark.parametrize("name", ["drop_percent", "increase_percent"])
@pytest.mark.parametrize(
    ("least", "undefined"), [(1e-8, [True, True, False, False]), (0.01, [True, True, True, False])]
)
def test_a_share_of_almost_nothing_is_undefined(name: str, least: float, undefined: list[bool]) -> None:
    result = getattr(faithfulness, name)(torch.tensor([0.0, 1e-9, 5e-5, 0.02]), torch.full((4,), 0.137), least)
    assert result.isnan().tolist() == undefined
    if name == "increase_percent" and least < 5e-5:
        assert result[2].item() == pytest.approx(273_900, rel=1e-4)


def test_agreement_and_flip_count_predictions() -> None:
    predicted = torch.tensor([True, False, True])
    assert agreement(predicted).tolist() == [1, 0, 1]
    assert flip(predicted).tolist() == [0, 1, 0]


@pytest.mark.parametrize("share", [0.15, 0.3, 0.5])
def test_kept_pixels_equal_their_definition(share: float) -> None:
    maps, ties = uniform(3, 9, 10, seed=3).round(decimals=1), uniform(3, 9, 10, seed=4)
    mask = keep_mask(maps, share, ties)
    assert mask.shape == (3, 1, 9, 10)
    for image in range(3):
        expected = reference.keep_mask(maps[image].numpy(), share, ties[image].numpy())
        np.testing.assert_array_equal(mask[image, 0], expected)


@pytest.mark.parametrize(("share", "size", "expected"), [(0.15, 224, 7526), (0.5, 224, 25088), (0.3, 8, 19)])
def test_pixels_are_counted_not_channel_values(share: float, size: int, expected: int) -> None:
    assert kept_pixels(share, size, size) == expected
    mask = keep_mask(uniform(1, size, size, seed=5), share, uniform(1, size, size, seed=6))
    # one mask for all channels: as many pixels of a color image stay as of a gray one
    assert int((torch.ones(1, 3, size, size) * mask).sum()) == 3 * expected


def test_sparse_and_constant_maps_keep_exactly_k_pixels() -> None:
    maps = torch.zeros(2, 40, 40)
    maps[0, :4, :4] = 1
    mask = keep_mask(maps, 0.15, uniform(2, 40, 40, seed=7))
    assert mask.sum(dim=(1, 2, 3)).tolist() == [240, 240]
    assert mask[0, 0, :4, :4].all()


@settings(max_examples=20, deadline=None, derandomize=True)
@given(scale=st.floats(1e-3, 1e3), offset=st.floats(-1, 1))
def test_scaling_changes_no_choice(scale: float, offset: float) -> None:
    levels = torch.arange(64.0)[torch.randperm(64, generator=torch.Generator().manual_seed(8))].view(1, 8, 8)
    ties = uniform(1, 8, 8, seed=9)
    assert torch.equal(keep_mask(scale * (levels / 64 + offset), 0.3, ties), keep_mask(levels, 0.3, ties))


def test_a_missing_tie_breaker_is_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        keep_mask(uniform(2, 8, 8, seed=10), 0.15, uniform(2, 8, 7, seed=11))
    assert (caught.value.expected, caught.value.actual) == ((2, 8, 8), (2, 8, 7))


def test_a_nan_probability_stays_undefined() -> None:
    for score, _ in SCORES.values():
        assert score(torch.tensor([0.5]), torch.tensor([math.nan])).isnan().all()


@pytest.mark.parametrize("threshold", [0.001, 0.2, 0.5, 0.7, 0.999])
def test_threshold_masks_equal_their_definition(threshold: float) -> None:
    maps = (uniform(3, 9, 10, seed=12) - 0.4).round(decimals=1) * torch.tensor([1.0, 1e-20, 1e20])[:, None, None]
    (masks,) = faithfulness.threshold_masks(maps, (threshold,))
    for image in range(3):
        umask, imask = reference.threshold_masks(maps[image].double().numpy(), threshold)
        np.testing.assert_array_equal(masks.umask[image, 0], umask)
        np.testing.assert_array_equal(masks.imask[image, 0], imask)


def test_a_pixel_at_the_threshold_is_in_neither_image() -> None:
    # signs: the zeros are scaled to exactly 0.5, and stay there when they round otherwise
    maps = torch.tensor([[[-1.0, 0.0, 1.0], [1.0, 1e-7, -1e-7]]])
    (masks,) = faithfulness.threshold_masks(maps, (0.5,))
    assert masks.umask[0, 0].tolist() == [[False, False, True], [True, False, False]]
    assert masks.imask[0, 0].tolist() == [[True, False, False], [False, False, False]]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    values=st.lists(st.floats(-1, 1, width=32), min_size=12, max_size=12),
    threshold=st.floats(0.001, 0.999),
    factor=st.floats(1e-3, 1e3),
)
def test_no_image_of_a_threshold_is_whole_or_empty(values: list[float], threshold: float, factor: float) -> None:
    maps = torch.tensor(values).view(1, 3, 4)
    assume((maps.max() - maps.min()).item() > 1e-3)
    (masks,) = faithfulness.threshold_masks(maps, (threshold,))
    for mask in masks:
        assert 0 < int(mask.sum()) < 12
    assert not (masks.umask & masks.imask).any()
    # the higher the threshold, the fewer pixels stay
    (higher,) = faithfulness.threshold_masks(maps, ((threshold + 0.999) / 2,))
    assert not (higher.umask & ~masks.umask).any()
    # a power of two changes no digit of the scaled map
    (scaled,) = faithfulness.threshold_masks(maps.double() * 2.0 ** round(math.log2(factor)), (threshold,))
    assert torch.equal(scaled.umask, masks.umask)


@pytest.mark.parametrize("threshold", [0.25, 0.6])
def test_threshold_masks_agree_with_scikit_learns_scaling(threshold: float) -> None:
    maps = uniform(4, 8, 9, seed=13) - 0.5
    scaled = MinMaxScaler().fit_transform(maps.flatten(1).double().numpy().T).T.reshape(4, 1, 8, 9)
    (masks,) = faithfulness.threshold_masks(maps, (threshold,))
    np.testing.assert_array_equal(masks.umask, scaled > threshold)
    np.testing.assert_array_equal(masks.imask, scaled < threshold)


def test_one_order_keeps_what_each_selection_keeps() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 30, (4, 12 * 12), generator=generator).float()
    ties, counts = torch.rand(4, 12 * 12, generator=generator), [0, 1, 22, 72, 144]
    found = faithfulness._sorted_once(values, counts, ties)
    for one, other in zip(found, faithfulness._selected(values, counts, ties), strict=True):
        assert torch.equal(one, other)
