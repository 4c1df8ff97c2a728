"""EDDA: masks of pixels, and scores of probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

import reference
from auditcore.errors import ShapeError
from auditcore.metrics import faithfulness
from auditcore.metrics.faithfulness import agreement, flip, keep_mask, kept_pixels

SCORES = {
    "sufficiency": (faithfulness.sufficiency, reference.sufficiency),
    "comprehensiveness": (faithfulness.comprehensiveness, reference.comprehensiveness),
    "drop_percent": (faithfulness.drop_percent, reference.drop_percent),
    "increase_percent": (faithfulness.increase_percent, reference.increase_percent),
}


def uniform(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SCORES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(original=st.floats(0, 1, width=32), changed=st.floats(0, 1, width=32))
# the float32 next to 1e-8 lies below it
@example(original=float(np.float32(1e-8)), changed=0.0)
def test_scores_equal_their_definitions(name: str, original: float, changed: float) -> None:
    score, expected = SCORES[name]
    result = score(torch.tensor([original]), torch.tensor([changed]))
    np.testing.assert_allclose(result, [expected(original, changed)], rtol=1e-5, atol=1e-6)


def test_the_signs_are_the_papers() -> None:
    original, kept, removed = torch.tensor([0.8]), torch.tensor([0.6]), torch.tensor([0.1])
    assert faithfulness.sufficiency(original, kept).item() == pytest.approx(-0.2)
    assert faithfulness.comprehensiveness(original, removed).item() == pytest.approx(0.7)
    assert faithfulness.drop_percent(original, kept).item() == pytest.approx(25)
    assert faithfulness.increase_percent(original, kept).item() == 0
    assert faithfulness.increase_percent(kept, original).item() == pytest.approx(100 / 3)


@pytest.mark.parametrize("name", ["drop_percent", "increase_percent"])
def test_a_share_of_nothing_is_undefined(name: str) -> None:
    result = SCORES[name][0](torch.tensor([0.0, 1e-9, 1e-3]), torch.tensor([0.5, 0.5, 0.5]))
    assert result.isnan().tolist() == [True, True, False]


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


def test_one_order_keeps_what_each_selection_keeps() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 30, (4, 12 * 12), generator=generator).float()
    ties, counts = torch.rand(4, 12 * 12, generator=generator), [0, 1, 22, 72, 144]
    found = faithfulness._sorted_once(values, counts, ties)
    for one, other in zip(found, faithfulness._selected(values, counts, ties), strict=True):
        assert torch.equal(one, other)
