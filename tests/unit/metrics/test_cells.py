"""Cells of the deletion grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import block_reduce
from torch import Tensor

import reference
from auditcore.counts.cells import default_grid
from auditcore.errors import ShapeError
from auditcore.images.cells import cell_index
from auditcore.metrics.cells import cell_relevance, deletion_step

SIZES = [(28, 28, 14), (224, 224, 14), (30, 45, 7), (9, 8, 8)]


def maps(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(11))


@pytest.mark.parametrize(("height", "width", "grid"), SIZES)
def test_cells_equal_their_definition(height: int, width: int, grid: int) -> None:
    cells = cell_index(height, width, grid)
    expected = [
        [reference.cell_of(row, column, height, width, grid) for column in range(width)] for row in range(height)
    ]
    assert cells.tolist() == expected
    assert cells.unique().tolist() == list(range(grid * grid))


@pytest.mark.parametrize(("height", "width", "grid"), [(28, 28, 14), (30, 45, 7), (9, 8, 8)])
def test_relevance_equals_its_definition(height: int, width: int, grid: int) -> None:
    reduced = maps(2, height, width)
    relevance = cell_relevance(reduced, grid)
    for image in range(2):
        expected = reference.cell_relevance(reduced[image].double().numpy(), grid)
        np.testing.assert_allclose(relevance[image], expected, atol=1e-12)


def test_relevance_agrees_with_scikit_image_where_the_grid_divides_the_side() -> None:
    reduced = maps(1, 224, 224)
    expected = block_reduce(reduced[0].double().numpy(), (16, 16), np.mean)
    np.testing.assert_allclose(cell_relevance(reduced, 14)[0], expected.ravel(), atol=1e-12)


@pytest.mark.parametrize("grid", [7, 10, 14])
def test_a_constant_map_ties_all_cells_exactly(grid: int) -> None:
    # cells of 10 differ in size; a rounding difference would order them by position
    relevance = cell_relevance(torch.full((1, 224, 224), 0.1), grid)
    assert relevance.unique().numel() == 1


def test_relevance_does_not_depend_on_neighbors() -> None:
    reduced = maps(3, 30, 45)
    torch.testing.assert_close(cell_relevance(reduced[1:2], 7), cell_relevance(reduced, 7)[1:2], atol=1e-15, rtol=1e-14)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), steps=st.integers(0, 16))
def test_after_s_steps_exactly_the_first_s_cells_are_deleted(seed: int, steps: int) -> None:
    order = torch.randperm(16, generator=torch.Generator().manual_seed(seed))[None]
    gone = deletion_step(order, cell_index(11, 9, 4)) <= steps
    expected = reference.deleted_after(order[0].tolist(), steps, 11, 9, 4)
    np.testing.assert_array_equal(gone[0], expected)


def test_orders_of_repeats_keep_their_place() -> None:
    orders = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(s)) for s in range(6)])
    cells = cell_index(8, 8, 4)
    together = deletion_step(orders.view(2, 3, 16), cells)
    assert together.shape == (2, 3, 8, 8)
    assert torch.equal(together[1, 2], deletion_step(orders[5], cells))
    assert (together.amin(dim=(2, 3)), together.amax(dim=(2, 3))) == (pytest.approx(1), pytest.approx(16))


def test_fine_grids_need_large_images() -> None:
    assert [default_grid(side, side) for side in (8, 127, 128, 224)] == [8, 8, 14, 14]
    assert default_grid(224, 100) == 8


@pytest.mark.parametrize("grid", [0, 9])
def test_empty_cells_are_refused(grid: int) -> None:
    for function in (lambda: cell_index(8, 20, grid), lambda: cell_relevance(torch.zeros(1, 8, 20), grid)):
        with pytest.raises(ShapeError, match="1 to 8 cells") as caught:
            function()
        assert caught.value.actual == grid


def test_an_order_of_another_grid_is_refused() -> None:
    with pytest.raises(ShapeError, match="16 cells") as caught:
        deletion_step(torch.arange(9)[None], cell_index(8, 8, 4))
    assert caught.value.actual == (1, 9)
