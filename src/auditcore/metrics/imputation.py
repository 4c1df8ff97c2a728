"""Noisy linear imputation: each removed pixel becomes the weighted mean of its neighbors, plus a little noise.

If pixels are replaced by one color, their outline remains visible to the model. ROAD's imputation hides it.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from auditcore.errors import ShapeError
from auditcore.metrics.multigrid import CENTER, OFFSETS, Grid, Multigrid

DIRECT_WEIGHT, DIAGONAL_WEIGHT = 1 / 6, 1 / 12
"""Weight of each of the four direct and four diagonal neighbors of a pixel; inside the image they sum to 1."""

TOLERANCE = 1e-7
"""Largest residual of an equation, in units of pixel space. The values then differ from a direct solution by at most
2e-6: 27 masks of 224 x 224 pixels, smooth and noisy, 10 to 90 % missing."""

MOST_STEPS = 100
"""Limit of the steps of conjugate gradients, which took at most 10 on those masks."""

_WEIGHTS = tuple(0.0 if at == (0, 0) else DIAGONAL_WEIGHT if all(at) else DIRECT_WEIGHT for at in OFFSETS)


def noisy_linear_imputation(
    pixels: Float[Tensor, "image channel height width"],
    missing: Bool[Tensor, "..."],
    noise: Float[Tensor, "..."],
) -> Float[Tensor, "image channel height width"]:
    """Replace missing pixels by the solution of x_i = sum_j w_j x_j over their neighbors, plus noise.

    Args:
        pixels: Images; the values of missing pixels are ignored.
        missing: (image, height, width) pixels to impute, in all channels; at least one pixel per image must remain.
        noise: Added to imputed values, of the images' shape.

    Returns:
        Images with all other pixels unchanged. Values are not clipped, as in the authors' code: means stay inside the
        range of the image, noise may leave it.

    Raises:
        ShapeError: The mask or the noise has a different size, or no pixel of an image remains.
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

    There is one linear system per image, the same for all channels. It is solved by conjugate gradients,
    preconditioned by a multigrid cycle, which takes the same time for small and large holes. All images are solved in
    the same operations, but the result of an image does not depend on the others.

    Args:
        pixels: Images; the values of missing pixels are ignored.
        missing: (image, height, width) pixels to impute; at least one pixel per image must remain.

    Returns:
        Images with all other pixels unchanged.

    Raises:
        ShapeError: The mask has a different size, or no pixel of an image remains.
        ArithmeticError: The equations were not solved to `TOLERANCE`.

    Source: Rong et al. 2022, Eq. 5 and the authors' `imputations.py`; at the border the weights of the existing
    neighbors are scaled to sum to 1.
    """
    if missing.shape != (len(pixels), *pixels.shape[2:]):
        raise ShapeError(expected=f"a mask of {(len(pixels), *pixels.shape[2:])}", actual=tuple(missing.shape))
    if bool(missing.flatten(1).all(dim=1).any()):
        raise ShapeError(expected="at least one remaining pixel per image", actual="an image with every pixel missing")
    # the cycle may use float32, the residuals may not: a hole of 200 pixels amplifies their errors
    known = pixels.double() * ~missing[:, None]
    grid, target = _system(known, missing)
    cycle = Multigrid(Grid(grid.stencil.float()))
    solution, residual = torch.zeros_like(known), target
    direction, energy = torch.zeros_like(known), torch.ones_like(known[..., :1, :1])
    for _ in range(MOST_STEPS):
        # each channel of each image stops on its own, so that the result does not depend on the rest of the batch
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
    """Build operator and right-hand side of (sum of weights) x_i - sum over missing neighbors = sum over known ones."""
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
