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
from auditcore.counts.cells import Grid, cells_within, grid_of
from auditcore.errors import ShapeError
from auditcore.images.cells import cell_index
from auditcore.metrics.cells import cell_relevance, deletion_step

SIZES = [(28, 28, Grid(14, 14)), (30, 45, Grid(7, 7)), (48, 192, Grid(3, 12)), (9, 8, Grid(9, 8))]

GRID = Grid(7, 7)


def maps(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(11))


@pytest.mark.parametrize(("height", "width", "grid"), SIZES)
def test_cells_equal_their_definition(height: int, width: int, grid: Grid) -> None:
    cells = cell_index(height, width, grid)
    expected = [
        [reference.cell_of(row, column, height, width, grid) for column in range(width)] for row in range(height)
    ]
    assert cells.tolist() == expected
    assert cells.unique().tolist() == list(range(grid.cells))


@pytest.mark.parametrize(("height", "width", "grid"), SIZES)
def test_relevance_equals_its_definition(height: int, width: int, grid: Grid) -> None:
    reduced = maps(2, height, width)
    relevance = cell_relevance(reduced, grid)
    for image in range(2):
        expected = reference.cell_relevance(reduced[image].double().numpy(), grid)
        np.testing.assert_allclose(relevance[image], expected, atol=1e-12)


def test_relevance_agrees_with_scikit_image_where_the_grid_divides_the_side() -> None:
    reduced = maps(1, 224, 224)
    expected = block_reduce(reduced[0].double().numpy(), (16, 16), np.mean)
    np.testing.assert_allclose(cell_relevance(reduced, Grid(14, 14))[0], expected.ravel(), atol=1e-12)


@pytest.mark.parametrize("grid", [7, 10, 14])
def test_a_constant_map_ties_all_cells_exactly(grid: int) -> None:
    # cells of 10 differ in size; a rounding difference would order them by position
    relevance = cell_relevance(torch.full((1, 224, 224), 0.1), Grid(grid, grid))
    assert relevance.unique().numel() == 1


def test_relevance_does_not_depend_on_neighbors() -> None:
    reduced = maps(3, 30, 45)
    torch.testing.assert_close(
        cell_relevance(reduced[1:2], GRID), cell_relevance(reduced, GRID)[1:2], atol=1e-15, rtol=1e-14
    )


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), steps=st.integers(0, 16))
def test_after_s_steps_exactly_the_first_s_cells_are_deleted(seed: int, steps: int) -> None:
    order = torch.randperm(16, generator=torch.Generator().manual_seed(seed))[None]
    gone = deletion_step(order, cell_index(11, 9, Grid(4, 4))) <= steps
    expected = reference.deleted_after(order[0].tolist(), steps, 11, 9, (4, 4))
    np.testing.assert_array_equal(gone[0], expected)


def test_orders_of_repeats_keep_their_place() -> None:
    orders = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(s)) for s in range(6)])
    cells = cell_index(8, 8, Grid(4, 4))
    together = deletion_step(orders.view(2, 3, 16), cells)
    assert together.shape == (2, 3, 8, 8)
    assert torch.equal(together[1, 2], deletion_step(orders[5], cells))
    assert (together.amin(dim=(2, 3)), together.amax(dim=(2, 3))) == (pytest.approx(1), pytest.approx(16))


def test_fine_grids_need_large_images() -> None:
    assert [grid_of(None, side, side).rows for side in (8, 127, 128, 224)] == [8, 8, 14, 14]
    assert grid_of(None, 224, 100).columns == 8


@pytest.mark.parametrize(
    ("height", "width", "grid"),
    [(48, 192, (8, 32)), (192, 48, (32, 8)), (360, 640, (14, 25)), (100, 150, (8, 12)), (8, 9, (8, 9))],
)
def test_cells_of_other_shapes_are_nearly_square(height: int, width: int, grid: tuple[int, int]) -> None:
    assert grid_of(None, height, width) == grid


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 20))
def test_a_grid_has_no_empty_cell_and_turns_with_the_image(height: int, width: int, cells: int) -> None:
    along = min(cells, height, width)
    grid = grid_of(along, height, width)
    assert min(grid) == along
    assert grid.rows <= height
    assert grid.columns <= width
    assert grid_of(along, width, height) == grid[::-1]
    # a cell's sides differ by less than a cell's share of rounding
    assert abs(height / grid.rows - width / grid.columns) <= min(height / grid.rows, width / grid.columns)


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 300))
def test_no_more_cells_than_asked_for(height: int, width: int, count: int) -> None:
    grid = cells_within(count, height, width)
    assert 1 <= grid.cells <= count
    assert grid.rows <= height
    assert grid.columns <= width
    finer = grid_of(min(grid) + 1, height, width)
    assert finer.cells > count or min(grid) == min(height, width)


@pytest.mark.parametrize("grid", [Grid(0, 4), Grid(9, 4), Grid(8, 21)])
def test_empty_cells_are_refused(grid: Grid) -> None:
    for function in (lambda: cell_index(8, 20, grid), lambda: cell_relevance(torch.zeros(1, 8, 20), grid)):
        with pytest.raises(ShapeError, match="1 to 8 rows and 1 to 20 columns") as caught:
            function()
        assert caught.value.actual == grid


def test_an_order_of_another_grid_is_refused() -> None:
    with pytest.raises(ShapeError, match="16 cells") as caught:
        deletion_step(torch.arange(9)[None], cell_index(8, 8, Grid(4, 4)))
    assert caught.value.actual == (1, 9)
