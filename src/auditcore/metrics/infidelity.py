"""How well a map, read as a linear model, accounts for what noise does to the logit."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.errors import ShapeError


def account_of_noise(
    maps: Float[Tensor, "copy channel height width"], noise: Float[Tensor, "..."]
) -> Float[Tensor, " copy"]:
    """I . a: the change of the logit that a map predicts for noise taken away from its image.

    A map of one channel spreads the relevance of each pixel evenly over the channels of the image; the sum of its
    relevance is preserved.

    Args:
        maps: Signed attributions, with the channels of the noise or with one.
        noise: (copy,C,H,W) normalized values that are subtracted from the image.

    Returns:
        Inner products, float64.

    Raises:
        ShapeError: The shapes do not fit.

    Source: Yeh et al. 2019.
    """
    count, channels, height, width = maps.shape
    if noise.ndim != maps.ndim or noise.shape[0] != count or noise.shape[2:] != (height, width):
        raise ShapeError(expected=f"noise of shape {(count, 'C', height, width)}", actual=tuple(noise.shape))
    if channels not in {1, noise.shape[1]}:
        raise ShapeError(expected=f"maps of 1 or {noise.shape[1]} channels", actual=tuple(maps.shape))
    values = noise.double()
    if channels == 1:
        values = values.mean(dim=1, keepdim=True)
    return (values * maps.double()).sum(dim=(1, 2, 3))


def infidelity(
    accounts: Float[Tensor, "image draw"], changes: Float[Tensor, "..."], *, normalize: bool
) -> Float[Tensor, " image"]:
    """Mean squared difference between a map's account of noise and what it really did.

    Args:
        accounts: I . a for independent draws of noise I.
        changes: f(x) - f(x - I) for the same draws, of the same shape.
        normalize: Scale each map by beta = E[I.a df] / E[(I.a)^2] first, the factor that suits it best, as the
            authors' code always does.

    Returns:
        Squared logits, at least 0, float64. NaN (undefined) where a value is not finite and, for `normalize`, where
        the map accounts for nothing at all.

    Raises:
        ShapeError: The shapes differ, or there is no draw.

    Source: Yeh et al. 2019, Definition 2.1.
    """
    if changes.shape != accounts.shape:
        raise ShapeError(expected=tuple(accounts.shape), actual=tuple(changes.shape))
    if accounts.shape[1] == 0:
        raise ShapeError(expected="at least one draw", actual=tuple(accounts.shape))
    told, true = accounts.double(), changes.double()
    if normalize:
        # 0 / 0 is NaN, which is what undefined means here
        told = told * ((told * true).mean(dim=1) / told.square().mean(dim=1))[:, None]
    squared = (told - true).square().mean(dim=1)
    return squared.masked_fill(~squared.isfinite(), torch.nan)
