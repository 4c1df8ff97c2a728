"""The relevance by which checks order pixels, against its replica and its symmetries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

import reference
from auditcore.contracts.checks import Reduction
from auditcore.contracts.ranking_orders import RankingOrder
from auditcore.counts.cells import Grid
from auditcore.metrics.cells import cell_relevance
from auditcore.metrics.ranking import rank_descending
from auditcore.metrics.reduction import ranking_relevance


def maps(seed: int, images: int = 2) -> torch.Tensor:
    return torch.randn(images, 3, 6, 7, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("order", "reduce"),
    [("signed", "sum"), ("signed", "mean"), ("signed", "max_abs"), ("magnitude", "sum")],
)
def test_relevance_is_that_of_the_replica(order: RankingOrder, reduce: Reduction) -> None:
    found = ranking_relevance(maps(1), order, reduce)
    assert found.dtype == torch.float64
    for one, own in zip(found, maps(1), strict=True):
        expected = reference.ranking_relevance(own.double().numpy(), order, reduce)
        np.testing.assert_allclose(one.numpy(), expected, rtol=1e-12, atol=0)


@given(seed=st.integers(0, 1000), flips=st.integers(0, 2**42 - 1))
def test_no_sign_of_any_pixel_changes_the_magnitude(seed: int, flips: int) -> None:
    signs = torch.tensor([1.0 - 2 * (flips >> bit & 1) for bit in range(42)]).view(1, 1, 6, 7)
    assert torch.equal(
        ranking_relevance(maps(seed), "magnitude", "sum"), ranking_relevance(maps(seed) * signs, "magnitude", "sum")
    )


def test_signs_change_the_signed_order() -> None:
    ties = torch.rand(2, 42, generator=torch.Generator().manual_seed(0))
    orders = [rank_descending(ranking_relevance(own, "signed", "sum").flatten(1), ties) for own in (maps(3), -maps(3))]
    assert torch.equal(orders[0], orders[1].flip(1))


def test_signs_that_alternate_cancel_in_a_cell_and_their_sizes_do_not() -> None:
    # the whole left half decides, with signs that alternate from pixel to pixel, as in maps made from gradients
    board = 1.0 - 2 * ((torch.arange(8)[:, None] + torch.arange(8)) % 2)
    own = (board * (torch.arange(8) < 4)).expand(1, 3, 8, 8)
    assert cell_relevance(ranking_relevance(own, "signed", "sum"), Grid(2, 2)).tolist() == [[0.0] * 4]
    assert cell_relevance(ranking_relevance(own, "magnitude", "sum"), Grid(2, 2)).tolist() == [[1.0, 0.0, 1.0, 0.0]]


def test_an_order_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        ranking_relevance(maps(1), "absolute", "sum")  # type: ignore[arg-type]
