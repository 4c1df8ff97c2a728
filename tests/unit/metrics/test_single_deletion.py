from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from auditcore.counts.cells import Grid
from auditcore.errors import ShapeError
from auditcore.metrics.single_deletion import patch_sums, single_deletion_score


def test_scores_are_those_of_scipy() -> None:
    torch.manual_seed(0)
    sums, whole, without = torch.randn(5, 16).double(), torch.randn(5), torch.randn(5, 16)
    for correlation, scipys in (("spearman", spearmanr), ("pearson", pearsonr)):
        found = single_deletion_score(sums, whole, without, correlation)  # type: ignore[arg-type]
        expected = [
            scipys(sums[row].numpy(), (whole[row] - without[row]).double().numpy()).statistic for row in range(5)
        ]
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_a_map_that_orders_the_patches_as_the_drops_do_scores_one() -> None:
    drops = torch.tensor([[0.1, 3.0, -2.0, 0.5]])
    whole = torch.tensor([7.0])
    assert single_deletion_score(drops.double() ** 3, whole, whole - drops, "spearman").item() == pytest.approx(1)
    assert single_deletion_score(-(drops.double() ** 3), whole, whole - drops, "spearman").item() == pytest.approx(-1)
    assert single_deletion_score(2 * drops.double(), whole, whole - drops, "pearson").item() == pytest.approx(1)


def test_rounding_of_float32_is_no_drop() -> None:
    whole = torch.tensor([100.0])
    without = torch.tensor([[100.0, 99.99999, 100.00001, 100.0]])
    sums = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    assert single_deletion_score(sums, whole, without, "spearman").isnan().item()
    assert single_deletion_score(sums, whole, torch.tensor([[100.0, 99.9, 98.0, 100.0]]), "spearman").isfinite().item()


@pytest.mark.parametrize("correlation", ["spearman", "pearson"])
def test_equal_patches_have_no_order(correlation: str) -> None:
    score = single_deletion_score(torch.ones(1, 4).double(), torch.ones(1), torch.rand(1, 4), correlation)  # type: ignore[arg-type]
    assert score.isnan().all()


def test_patches_of_unequal_size_are_summed_not_averaged() -> None:
    torch.manual_seed(1)
    maps = torch.rand(2, 5, 7)
    sums = patch_sums(maps, Grid(2, 3))
    assert torch.allclose(sums.sum(dim=1), maps.double().sum(dim=(1, 2)))
    assert sums[0, 0].item() == pytest.approx(maps[0, :3, :3].sum().item())


def test_shapes_have_to_agree() -> None:
    with pytest.raises(ShapeError):
        single_deletion_score(torch.rand(1, 4).double(), torch.rand(1), torch.rand(1, 5), "spearman")
