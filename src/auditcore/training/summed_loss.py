"""Losses that are sums of many parts, in the memory of one part."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.training.network import Network


def summed(network: Network, parts: Iterable[Float[Tensor, ""]]) -> Float[Tensor, ""]:
    """The sum of parts of a loss; its gradient by the weights of a network is the sum of theirs.

    What a part remembers for its gradient is freed before the next part is computed: a loss of 16 changed copies of
    each image would need 16 times the memory of a step.

    Args:
        network: Its weights get gradients; nothing else does.
        parts: At least one; each is computed when it is asked for.
    """
    weights = [weight for weight in network.module.parameters() if weight.requires_grad]
    gradients = [torch.zeros_like(weight) for weight in weights]
    total = torch.zeros((), device=network.device)
    for part in parts:
        found = torch.autograd.grad(part, weights, allow_unused=True)
        gradients = [whole if own is None else whole + own for whole, own in zip(gradients, found, strict=True)]
        total = total + part.detach()
    # 0 in value; its gradient is what was added up
    carrier = [((weight - weight.detach()) * own).sum() for weight, own in zip(weights, gradients, strict=True)]
    return total + torch.stack(carrier).sum()
