"""ROAD's linear imputation by conjugate gradients: a multigrid cycle against two short preconditioners.

    make imputation

Every line imputes a photo of 224 x 224 pixels at one share of missing pixels, with several masks at once, as a removal
curve does. All three solve the equations of `auditcore.metrics.imputation` to the same residual, in float64:

- `multigrid`: the cycle of `auditcore.metrics.multigrid`, which is in use.
- `jacobi`: the inverse of the diagonal.
- `neumann`: the incomplete Poisson preconditioner, two terms of the Neumann series of the inverse. It has no triangular
  solves, which many images and channels could not share.

Prints a line for each kind of mask and share, and writes all of them to `imputation.json`. Fails if the loop here does
not give the bytes of the library with the multigrid cycle.

Source: Ament et al. 2010, A parallel preconditioned conjugate gradient solver for the Poisson problem.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter
from skimage import data
from skimage.transform import resize
from torch import Tensor

from auditcore.metrics import imputation
from auditcore.metrics.multigrid import CENTER, Grid, Multigrid

SIDE = 224
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
SMOOTH_PX = {"scattered": 0.0, "patches": 3.0, "holes": 20.0}
"""Standard deviation of the blur over random values, of which the largest are missing: the rankings of gradients, of
smoothed gradients and of coarse maps such as Grad-CAM."""

MOST_STEPS = 5000
Preconditioner = Callable[[Grid], Callable[[Tensor], Tensor]]


@dataclass(frozen=True)
class Line:
    """One kind of mask at one share; seconds are the median of the repetitions, for all masks together."""

    mask: str
    share: float
    way: str
    steps: int
    seconds: float
    difference: float


def photo() -> Tensor:
    """A photo of scikit-image, (3, SIDE, SIDE) float32 in [0, 1]."""
    pixels = resize(data.astronaut(), (SIDE, SIDE), anti_aliasing=True)
    return torch.from_numpy(pixels.astype(np.float32)).movedim(-1, 0)


def masks(kind: str, share: float, count: int) -> Tensor:
    """Missing pixels (count, SIDE, SIDE), each mask of a seed of its own."""
    found = []
    for seed in range(count):
        values = np.random.default_rng(seed).random((SIDE, SIDE))
        if SMOOTH_PX[kind]:
            values = gaussian_filter(values, SMOOTH_PX[kind])
        found.append(torch.from_numpy(values >= np.quantile(values, 1 - share)))
    return torch.stack(found)


def multigrid(grid: Grid) -> Callable[[Tensor], Tensor]:
    """The cycle of `auditcore.metrics.imputation`, in float32 as there."""
    cycle = Multigrid(Grid(grid.stencil.float()))
    return lambda residual: cycle(residual.float()).double()


def jacobi(grid: Grid) -> Callable[[Tensor], Tensor]:
    """The inverse of the diagonal."""
    inverse = torch.where(grid.unknown, 1 / grid.stencil[CENTER], 0)
    return lambda residual: inverse * residual


def neumann(grid: Grid) -> Callable[[Tensor], Tensor]:
    """Two terms of the Neumann series: D^-1 + D^-1 N D^-1 for an operator D - N."""
    inverse = torch.where(grid.unknown, 1 / grid.stencil[CENTER], 0)

    def apply(residual: Tensor) -> Tensor:
        first = inverse * residual
        return first + inverse * (residual - grid.apply(first))

    return apply


WAYS: dict[str, Preconditioner] = {"multigrid": multigrid, "jacobi": jacobi, "neumann": neumann}


def solve(pixels: Tensor, missing: Tensor, precondition: Preconditioner) -> tuple[Tensor, int]:
    """Imputed images and the number of steps, by the loop of `auditcore.metrics.imputation`."""
    known = pixels.double() * ~missing[:, None]
    grid, target = imputation._system(known, missing)
    inverse = precondition(grid)
    solution, residual = torch.zeros_like(known), target
    direction, energy = torch.zeros_like(known), torch.ones_like(known[..., :1, :1])
    for step in range(MOST_STEPS):
        active = residual.abs().amax(dim=(2, 3), keepdim=True) > imputation.TOLERANCE
        if not bool(active.any()):
            return torch.where(missing[:, None], solution.to(pixels.dtype), pixels), step
        proposal = inverse(residual)
        previous, energy = energy, (residual * proposal).sum(dim=(2, 3), keepdim=True)
        direction = proposal.addcmul_(torch.where(active, energy / previous, 0), direction)
        image = grid.apply(direction)
        length = torch.where(active, energy / (direction * image).sum(dim=(2, 3), keepdim=True), 0)
        solution = solution.addcmul_(length, direction)
        residual = residual - length * image
    msg = f"no solution after {MOST_STEPS} steps"
    raise ArithmeticError(msg)


def measure(kind: str, share: float, *, count: int, repetitions: int, device: str) -> list[Line]:
    """All ways on the same masks, in turn, so that a busy machine slows all of them."""
    missing = masks(kind, share, count).to(device)
    pixels = photo().expand(count, -1, -1, -1).to(device)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    results: dict[str, tuple[Tensor, int]] = {}
    for _ in range(repetitions):
        for way, precondition in WAYS.items():
            begun = time.perf_counter()
            results[way] = solve(pixels, missing, precondition)
            if device != "cpu":
                torch.cuda.synchronize()
            seconds[way].append(time.perf_counter() - begun)
    shipped = imputation.linear_imputation(pixels, missing)
    return [
        Line(kind, share, way, steps, median(seconds[way]), float((found - shipped).abs().max()))
        for way, (found, steps) in results.items()
    ]


def main() -> int:
    """Measure, print and write; 1 if the loop here with the multigrid cycle is not the one of the library."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--masks", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("imputation.json"))
    chosen = parser.parse_args()
    table = Table("mask", "missing", *(f"{way}: steps, s" for way in WAYS), "largest difference")
    lines: list[Line] = []
    for kind in SMOOTH_PX:
        for share in SHARES:
            found = measure(kind, share, count=chosen.masks, repetitions=chosen.repetitions, device=chosen.device)
            lines += found
            cells = [f"{line.steps}, {line.seconds:.2f}" for line in found]
            table.add_row(kind, f"{share:.0%}", *cells, f"{max(line.difference for line in found):.1e}")
    Console(width=110).print(table)
    chosen.out.write_text(json.dumps([asdict(line) for line in lines], indent=1))
    return int(any(line.difference > 0 for line in lines if line.way == "multigrid"))


if __name__ == "__main__":
    sys.exit(main())
