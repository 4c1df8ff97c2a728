"""Gradients of target logits with respect to the input, and nothing else."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from auditcore.models.target_gradient import target_gradient


def input_gradient(
    module: nn.Module,
    inputs: Float[Tensor, "image channel height width"],
    targets: Int[Tensor, " image"],
) -> tuple[Float[Tensor, "image channel height width"], Float[Tensor, " image"]]:
    """Gradient of each image's target logit, whatever the layers of `module` take for their gradients.

    Args:
        module: Normalized inputs to logits.
        inputs: Normalized images.
        targets: Class index for each image.

    Returns:
        Gradients and target logits, both detached.
    """
    gradients, logits = target_gradient(module, inputs, targets)
    return gradients, logits.gather(1, targets[:, None])[:, 0]
