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
        scores = module(inputs).gather(1, targets[:, None])[:, 0]
        (gradients,) = torch.autograd.grad(scores.sum(), inputs)
    return gradients, scores.detach()
