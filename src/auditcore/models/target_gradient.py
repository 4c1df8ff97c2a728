"""The gradient of each image's target logit with respect to its input, for any function from images to logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor


def target_gradient(
    forward: Callable[[Tensor], Tensor],
    inputs: Float[Tensor, "image channel height width"],
    targets: Int[Tensor, " image"] | None,
) -> tuple[Float[Tensor, "image channel height width"], Float[Tensor, "image class"]]:
    """Compute gradients and logits in one forward and one backward pass.

    Images do not mix in evaluation mode, so one backward pass of the sum gives the gradients of all images.

    Args:
        forward: Function from normalized inputs to logits.
        inputs: Normalized images.
        targets: Class of each image; the most probable class if None.

    Returns:
        Gradients and logits, both detached.
    """
    leaf = inputs.detach().requires_grad_()
    with torch.enable_grad():
        logits = forward(leaf)
    (gradients,) = torch.autograd.grad(logits, leaf, one_hot(targets, logits))
    return gradients, logits.detach()


def one_hot(
    targets: Int[Tensor, " image"] | None, logits: Float[Tensor, "image class"]
) -> Float[Tensor, "image class"]:
    """Return the start of the backward pass: 1 at each image's target, or its most probable class if None; else 0."""
    chosen = logits.detach().argmax(dim=1) if targets is None else targets
    return torch.zeros_like(logits).scatter_(1, chosen[:, None], 1.0)
