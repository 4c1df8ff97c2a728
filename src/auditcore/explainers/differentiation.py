"""Gradients of target logits with respect to the input, and nothing else."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def input_gradient(
    module: nn.Module,
    inputs: Float[Tensor, "image 3 height width"],
    targets: Int[Tensor, " image"],
) -> tuple[Float[Tensor, "image 3 height width"], Float[Tensor, " image"]]:
    """Gradient of each image's target logit, whatever the layers of `module` take for their gradients.

    Images do not mix in evaluation mode, so one backward pass of the sum serves them all.

    Args:
        module: Normalized inputs to logits.
        inputs: Normalized images.
        targets: Class index for each image.

    Returns:
        Gradients and target logits, both detached.
    """
    inputs = inputs.detach().requires_grad_()
    with torch.enable_grad():
        logits = module(inputs)
    (gradients,) = torch.autograd.grad(logits, inputs, one_hot(targets, logits))
    return gradients, logits.detach().gather(1, targets[:, None])[:, 0]


def one_hot(targets: Int[Tensor, " image"], logits: Float[Tensor, "image class"]) -> Float[Tensor, "image class"]:
    """Where the backward pass begins: 1 at each image's target, 0 elsewhere."""
    return torch.zeros_like(logits).scatter_(1, targets[:, None], 1.0)
