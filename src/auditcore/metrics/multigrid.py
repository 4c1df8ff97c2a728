"""Multigrid for systems in which every unknown pixel depends on its eight neighbors, for many images at once.

A grid's operator has nine coefficients per pixel. Coarser operators are Galerkin products with bilinear interpolation,
so that holes of any shape keep a symmetric positive definite system on every grid. One cycle is a preconditioner with
which conjugate gradients need 7 to 11 steps, whatever the size of the holes. With the diagonal as preconditioner they
need 12 to 633, and up to 18 times as long (`tests/benchmarks/imputation.py`).

Source: Briggs, Henson & McCormick 2000, chapters 3, 8; l1-Jacobi smoothing: Baker et al. 2011.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

OFFSETS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1))
"""Row and column steps to the pixels that a stencil couples, in the order of its coefficients."""

CENTER = OFFSETS.index((0, 0))

RELAXATION = 1.5
"""Relaxation of the l1-Jacobi smoother, which converges below 2. At 1.2, 1.4 and 1.6 the worst masks took 10, 10 and 9
steps."""

Stencil: TypeAlias = Float[Tensor, "9 image 1 height width"]
Field: TypeAlias = Float[Tensor, "image channel height width"]


@dataclass(frozen=True)
class Grid:
    """One symmetric positive semidefinite operator on pixels.

    Attributes:
        stencil: Coefficient of each neighbor in `OFFSETS`, zero where there is none or a pixel is no unknown.
    """

    stencil: Stencil

    def apply(self, field: Field) -> Field:
        """The operator's product with a field."""
        height, width = field.shape[-2:]
        padded = pad(field, (1, 1, 1, 1))
        product = self.stencil[CENTER] * field
        for coefficients, (down, right) in zip(self.stencil, OFFSETS, strict=True):
            if (down, right) != (0, 0):
                product.addcmul_(coefficients, padded[..., 1 + down :, 1 + right :][..., :height, :width])
        return product

    @cached_property
    def unknown(self) -> Bool[Tensor, "image 1 height width"]:
        """The unknown pixels."""
        return self.stencil[CENTER] > 0

    @cached_property
    def smoothing(self) -> Float[Tensor, "image 1 height width"]:
        """Step of the smoother per unit of residual: the relaxation divided by the absolute sum of the row."""
        return (RELAXATION / self.stencil.abs().sum(dim=0)).masked_fill(~self.unknown, 0)


class Multigrid:
    """Approximate inverse of a grid's operator by one V-cycle over ever coarser grids."""

    def __init__(self, finest: Grid) -> None:
        """Build the coarser grids, down to one pixel."""
        self._grids = [finest]
        while self._grids[-1].stencil[CENTER, 0, 0].numel() > 1:
            self._grids.append(_coarser(self._grids[-1]))

    def __call__(self, residual: Field) -> Field:
        """One cycle for a residual that is zero outside the unknowns; on them it is symmetric and positive definite."""
        return self._cycle(residual, 0)

    def _cycle(self, residual: Field, level: int) -> Field:
        grid = self._grids[level]
        if level == len(self._grids) - 1:
            # one pixel: solve its equation, if it has one
            return torch.where(grid.unknown, residual / grid.stencil[CENTER], 0)
        field = grid.smoothing * residual
        coarse = self._cycle(restrict(residual - grid.apply(field)), level + 1)
        field += prolong(coarse, *field.shape[-2:]) * grid.unknown
        return field.addcmul_(grid.smoothing, residual - grid.apply(field))


def prolong(coarse: Field, height: int, width: int) -> Float[Tensor, "image channel fine_height fine_width"]:
    """Bilinear interpolation from the pixels with even row and column; a last odd pixel copies its neighbor."""
    return _widen(_widen(coarse, width).mT, height).mT


def restrict(fine: Field) -> Float[Tensor, "image channel coarse_height coarse_width"]:
    """The transpose of `prolong`."""
    return _narrow(_narrow(fine).mT).mT


def _widen(coarse: Tensor, width: int) -> Tensor:
    between = (width - 1) // 2
    fine = coarse.repeat_interleave(2, dim=-1)[..., :width]
    fine[..., 1 : 2 * between : 2] = (coarse[..., :between] + coarse[..., 1 : between + 1]) / 2
    return fine


def _narrow(fine: Tensor) -> Tensor:
    width = fine.shape[-1]
    between = (width - 1) // 2
    coarse, halves = fine[..., ::2].clone(), fine[..., 1::2] / 2
    coarse[..., : width // 2] += halves
    coarse[..., 1 : between + 1] += halves[..., :between]
    if width % 2 == 0:
        coarse[..., -1] += halves[..., -1]
    return coarse


def _coarser(grid: Grid) -> Grid:
    """Galerkin operator on every second pixel: restriction, operator and interpolation in one stencil.

    Unit fields on every third row and column do not overlap after all three, so nine products give all coefficients.
    """
    stencil = grid.stencil
    _, images, _, height, width = stencil.shape
    rows, columns = (torch.arange((side + 1) // 2, device=stencil.device) % 3 for side in (height, width))
    color = 3 * rows[:, None] + columns
    units = torch.nn.functional.one_hot(color, len(OFFSETS)).movedim(-1, 0).to(stencil)[None]
    products = restrict(grid.apply(prolong(units, height, width) * grid.unknown))
    neighbor = torch.stack([3 * ((rows + down) % 3)[:, None] + (columns + right) % 3 for down, right in OFFSETS])
    coefficients = products.gather(1, neighbor.expand(images, -1, -1, -1))
    return Grid(coefficients.movedim(1, 0)[:, :, None])
