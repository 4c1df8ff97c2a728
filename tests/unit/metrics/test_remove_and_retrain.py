from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import reference_retraining
from auditcore.errors import ShapeError
from auditcore.metrics.ranking import rank_descending
from auditcore.metrics.removal_curves import removal_rank
from auditcore.metrics.remove_and_retrain import accuracy_area, removed_pixels, without_pixels

SHARES = (0.0, 0.07, 0.1, 0.25, 0.57, 0.9, 1.0)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("measure", ["roar", "kar"])
def test_removed_images_are_those_of_a_loop_over_pixels(share: float, measure: str) -> None:
    random = np.random.default_rng(0)
    images = random.random((3, 2, 10, 10))
    # few levels, so that many pixels are tied at every cut
    relevance, ties = random.integers(0, 4, (3, 10, 10)).astype(float), random.random((3, 10, 10))
    rank = removal_rank(rank_descending(torch.from_numpy(relevance).flatten(1), torch.from_numpy(ties).flatten(1)))
    color = torch.tensor([0.3, 0.6], dtype=torch.float64).view(1, 2, 1, 1)
    changed = without_pixels(torch.from_numpy(images), removed_pixels(rank, share, measure), color)  # type: ignore[arg-type]
    for image in range(3):
        gone = reference_retraining.most_relevant(relevance[image], ties[image], round(share * 100))
        if measure == "kar":
            gone = {(row, column) for row in range(10) for column in range(10)} - gone
        expected = reference_retraining.with_color(images[image], gone, (0.3, 0.6))
        np.testing.assert_array_equal(changed[image].numpy(), expected)


@given(share=st.floats(0, 1), pixels=st.integers(1, 200))
def test_what_roar_removes_is_what_kar_keeps(share: float, pixels: int) -> None:
    rank = torch.randperm(pixels)[None]
    roar, kar = removed_pixels(rank, share, "roar"), removed_pixels(rank, share, "kar")
    assert torch.equal(roar, ~kar)
    # the exact number, and the most relevant ones
    assert set(rank[roar].tolist()) == set(range(int(roar.sum())))
    assert int(roar.sum()) <= share * pixels + 1e-9


def test_area_is_that_of_trapezoids_of_uneven_shares() -> None:
    scores = np.random.default_rng(1).random((4, len(SHARES)))
    expected = [reference_retraining.area(SHARES, row) for row in scores]
    np.testing.assert_allclose(accuracy_area(scores, SHARES), expected, rtol=1e-12)
    # a constant accuracy is its own area, wherever the shares begin and end
    np.testing.assert_allclose(accuracy_area(np.full((1, 2), 0.7), (0.3, 0.5)), [0.7])


def test_an_undefined_point_makes_the_area_undefined() -> None:
    assert np.isnan(accuracy_area(np.array([[1.0, np.nan, 0.5]]), (0.0, 0.1, 0.2))).all()


def test_one_point_has_no_area() -> None:
    with pytest.raises(ShapeError, match="at least 2"):
        accuracy_area(np.array([[1.0]]), (0.1,))
    with pytest.raises(ShapeError):
        without_pixels(torch.zeros(1, 1, 2, 2), torch.zeros(1, 5, dtype=torch.bool), torch.zeros(1, 1, 1, 1))
