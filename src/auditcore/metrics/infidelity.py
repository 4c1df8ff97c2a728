"""Infidelity: how well a map, taken as a linear model, predicts the effect of noise on the logit."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.errors import ShapeError


def account_of_noise(
    maps: Float[Tensor, "copy channel height width"], noise: Float[Tensor, "..."]
) -> Float[Tensor, " copy"]:
    """Compute I . a: the change of the logit that a map predicts when noise is subtracted from its image.

    For a map with one channel, the relevance of each pixel is spread evenly over the channels of the image, which
    preserves the sum of relevance.

    Args:
        maps: Signed attributions, with as many channels as the noise or with one.
        noise: (copy,C,H,W) values subtracted from the normalized image.

    Returns:
        Inner products, float64.

    Raises:
        ShapeError: The shapes do not match.

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
    """Compute the mean squared difference between predicted and actual changes of the logit.

    Args:
        accounts: I . a for independent draws of noise I.
        changes: f(x) - f(x - I) for the same draws, of the same shape.
        normalize: Scale each map by beta = E[I.a df] / E[(I.a)^2] first, the factor with the smallest error, as the
            authors' code always does.

    Returns:
        Squared logits, at least 0, float64. NaN (undefined) if a value is not finite or, for `normalize`, if the map
        predicts no change for any draw.

    Raises:
        ShapeError: The shapes differ, or there is no draw.

    Source: Yeh et al. 2019, Definition 2.1.
    """
    if changes.shape != accounts.shape:
        raise ShapeError(expected=tuple(accounts.shape), actual=tuple(changes.shape))
    if accounts.shape[1] == 0:
        raise ShapeError(expected="at least one draw", actual=tuple(accounts.shape))
    predicted, actual = accounts.double(), changes.double()
    if normalize:
        # 0 / 0 is NaN, which means undefined here
        predicted = predicted * ((predicted * actual).mean(dim=1) / predicted.square().mean(dim=1))[:, None]
    squared = (predicted - actual).square().mean(dim=1)
    return squared.masked_fill(~squared.isfinite(), torch.nan)
