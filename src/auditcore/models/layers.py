"""Layers that replace operators in canonical models, so that a rule can be attached to each."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from zennit.layer import Sum


class Addition(nn.Module):
    """`left + right` as a zennit `Sum`, whose rule splits relevance in proportion to the two summands."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = Sum(dim=-1)

    def forward(self, left: Float[Tensor, "*shape"], right: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the sum of two tensors of one shape."""
        total: Tensor = self.sum(torch.stack((left, right), dim=-1))
        # the sum of a stack loses the channels-last memory format
        if left.ndim == 4 and left.is_contiguous(memory_format=torch.channels_last):  # noqa: PLR2004 - (N,C,H,W)
            return total.contiguous(memory_format=torch.channels_last)
        return total


class Gate(nn.Module):
    """`signal * gate`: the gate only scales the signal.

    The gradient is that of the product. Relevance belongs only to the signal (definitions, section 11); layer-wise
    relevance propagation implements that from outside.
    """

    def forward(self, signal: Float[Tensor, "..."], gate: Float[Tensor, "..."] | float) -> Float[Tensor, "..."]:
        """Return the product, with broadcasting; `gate` may be a number."""
        return signal * gate


class SpatialMean(nn.Module):
    """Mean over height and width, as an average pooling layer to which a rule can be attached."""

    def __init__(self, *, keep_dimensions: bool) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.keep_dimensions = keep_dimensions

    def forward(self, features: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image channel ..."]:
        """Reduce (N,C,H,W) to (N,C,1,1), or to (N,C) without `keep_dimensions`."""
        pooled: Tensor = self.pool(features)
        return pooled if self.keep_dimensions else pooled.flatten(1)
