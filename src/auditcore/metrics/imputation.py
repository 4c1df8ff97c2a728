"""Removing pixels without a trace: each becomes the weighted mean of its neighbors, plus a little noise.

A color that replaces pixels shows their outline, and a model can read the outline; ROAD's imputation hides it.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from auditcore.errors import ShapeError
from auditcore.metrics.multigrid import CENTER, OFFSETS, Grid, Multigrid

DIRECT_WEIGHT, DIAGONAL_WEIGHT = 1 / 6, 1 / 12
"""Weight of the four direct and the four diagonal neighbors of a pixel; together 1 inside the image."""

TOLERANCE = 1e-7
"""Largest residual left in an equation, in units of pixel space; the values then differ from those of a direct
solution by 2e-6 at most: 27 masks of 224 x 224 pixels, smooth and noisy, 10 to 90 % missing."""

MOST_STEPS = 100
"""Conjugate gradients took 10 steps at most on those masks."""

_WEIGHTS = tuple(0.0 if at == (0, 0) else DIAGONAL_WEIGHT if all(at) else DIRECT_WEIGHT for at in OFFSETS)


def noisy_linear_imputation(
    pixels: Float[Tensor, "image channel height width"],
    missing: Bool[Tensor, "..."],
    noise: Float[Tensor, "..."],
) -> Float[Tensor, "image channel height width"]:
    """Replace missing pixels by the solution of x_i = sum_j w_j x_j over their neighbors, plus noise.

    Args:
        pixels: Images; what their missing pixels hold plays no role.
        missing: (image, height, width) pixels to impute, in all channels; at least one pixel of an image must remain.
        noise: What is added to imputed values, of the images' shape.

    Returns:
        Images whose other pixels are unchanged. Values are not clipped, as in the authors' code: means stay inside the
        range of the image, noise may leave it.

    Raises:
        ShapeError: Missing pixels or noise of another size, or nothing remains of an image.
        ArithmeticError: The equations were not solved to `TOLERANCE`.

    Source: Rong et al. 2022, the authors' `imputations.py`.
    """
    if noise.shape != pixels.shape:
        raise ShapeError(expected=f"noise of shape {tuple(pixels.shape)}", actual=tuple(noise.shape))
    return torch.where(missing[:, None], linear_imputation(pixels, missing) + noise, pixels)


def linear_imputation(
    pixels: Float[Tensor, "image channel height width"], missing: Bool[Tensor, "..."]
) -> Float[Tensor, "image channel height width"]:
    """Replace missing pixels by the weighted mean of their neighbors, which may be missing themselves.

    One system an image, the same for all channels, solved by conjugate gradients with a multigrid cycle: it takes as
    long on small as on large holes, and images share every operation. An image's result does not depend on the others.

    Args:
        pixels: Images; what their missing pixels hold plays no role.
        missing: (image, height, width) pixels to impute; at least one pixel of an image must remain.

    Returns:
        Images whose other pixels are unchanged.

    Raises:
        ShapeError: Missing pixels of another size, or nothing remains of an image.
        ArithmeticError: The equations were not solved to `TOLERANCE`.

    Source: Rong et al. 2022, Eq. 5 and the authors' `imputations.py`; at the border the weights of the neighbors that
    exist are scaled to sum to 1.
    """
    if missing.shape != (len(pixels), *pixels.shape[2:]):
        raise ShapeError(expected=f"a mask of {(len(pixels), *pixels.shape[2:])}", actual=tuple(missing.shape))
    if bool(missing.flatten(1).all(dim=1).any()):
        raise ShapeError(expected="at least one pixel that remains", actual="an image of which all are missing")
    # the cycle may round, the residuals may not: a hole of 200 pixels amplifies their errors
    known = pixels.double() * ~missing[:, None]
    grid, target = _system(known, missing)
    cycle = Multigrid(Grid(grid.stencil.float()))
    solution, residual = torch.zeros_like(known), target
    direction, energy = torch.zeros_like(known), torch.ones_like(known[..., :1, :1])
    for _ in range(MOST_STEPS):
        # each channel of each image stops by itself, so that it does not depend on those it shares a batch with
        active = residual.abs().amax(dim=(2, 3), keepdim=True) > TOLERANCE
        if not bool(active.any()):
            return torch.where(missing[:, None], solution.to(pixels.dtype), pixels)
        proposal = cycle(residual.float()).double()
        previous, energy = energy, _inner(residual, proposal)
        direction = proposal.addcmul_(torch.where(active, energy / previous, 0), direction)
        image = grid.apply(direction)
        length = torch.where(active, energy / _inner(direction, image), 0)
        solution = solution.addcmul_(length, direction)
        residual = residual - length * image
    msg = f"imputation left a residual of {float(residual.abs().max()):.1e} after {MOST_STEPS} steps"
    raise ArithmeticError(msg)


def _system(known: Tensor, missing: Tensor) -> tuple[Grid, Tensor]:
    """Operator and right-hand side: (sum of weights) x_i - sum over missing neighbors = sum over known neighbors."""
    height, width = missing.shape[1:]
    absent = missing[:, None].to(known)
    inside = pad(torch.ones_like(absent[:1]), (1, 1, 1, 1))
    absent_around, known_around = pad(absent, (1, 1, 1, 1)), pad(known, (1, 1, 1, 1))
    stencil = torch.empty(len(OFFSETS), *absent.shape, dtype=known.dtype, device=known.device)
    weights, target = torch.zeros_like(absent[:1]), torch.zeros_like(known)
    for position, ((down, right), weight) in enumerate(zip(OFFSETS, _WEIGHTS, strict=True)):
        there = (..., slice(1 + down, 1 + down + height), slice(1 + right, 1 + right + width))
        weights += weight * inside[there]
        torch.mul(absent, absent_around[there], out=stencil[position]).mul_(-weight)
        target.addcmul_(absent, known_around[there], value=weight)
    stencil[CENTER] = weights * absent
    return Grid(stencil), target


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=(2, 3), keepdim=True)
