"""AugMix with its consistency loss.

Source: Hendrycks et al. 2020, algorithm 1 and equation 2, and the authors' code.
"""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from auditcore.contracts.models import Scores
from auditcore.contracts.training.methods.augmix import VIEWS, AugMix
from auditcore.training.image_operations import apply_operations, draw_operations, require_colors
from auditcore.training.method import Method, MethodSetting, Step, TrainingBatch
from auditcore.training.network import Network

_DEPTHS = (1, 3)
"""Fewest and most augmentations of a chain."""

_LEAST_PROBABILITY = 1e-7
"""Of the mean prediction, as in the authors' code, so that no divergence is infinite."""


@final
class AugMixTraining(Method):
    """The cross-entropy of images, and how far their predictions are from those of mixtures of them."""

    def __init__(self, contract: AugMix, setting: MethodSetting) -> None:
        """Keep the contract.

        Raises:
            ModelNotTrainable: Its changes of color are not defined for the model's channels.
        """
        if contract.all_operations:
            require_colors(setting.network.start.shape, contract.kind)
        self._contract = contract

    def step(self, network: Network, batch: TrainingBatch) -> Step:
        """The loss of the batch and its mixtures."""
        if not self._contract.consistency:
            mixed = mixture(batch.pixels, self._contract, batch.random)
            return Step(network.losses(network.logits(mixed), batch.targets).mean())
        views = (batch.pixels, *(mixture(batch.pixels, self._contract, batch.random) for _ in range(VIEWS - 1)))
        logits = network.logits(torch.cat(views)).unflatten(0, (VIEWS, len(batch)))
        spread = jensen_shannon(logits, network.scores).mean()
        loss = network.losses(logits[0], batch.targets).mean() + self._contract.consistency_weight * spread
        return Step(loss, {"jensen_shannon": float(spread.detach())})


def mixture(
    pixels: Float[Tensor, "image channel height width"], contract: AugMix, random: np.random.Generator
) -> Float[Tensor, "image channel height width"]:
    """Blend each image with a mixture of chains of augmentations of itself.

    Args:
        pixels: Images in pixel space [0,1].
        contract: Number and depth of chains, and how weights are drawn.
        random: Generator of this step; every image has its own weights.

    Returns:
        Images in [0,1].
    """
    count, width = len(pixels), contract.width
    weights = random.dirichlet([contract.alpha] * width, size=count)
    shares = random.beta(contract.alpha, contract.alpha, size=count)
    fewest, most = _DEPTHS if contract.depth is None else (contract.depth, contract.depth)
    depths = random.integers(fewest, most + 1, size=count * width)
    chains = pixels.repeat_interleave(width, dim=0)
    for done in range(most):
        operations = draw_operations(
            random, count * width, severity=contract.severity, all_operations=contract.all_operations
        )
        longer = torch.from_numpy(depths > done).to(pixels.device).view(-1, 1, 1, 1)
        chains = torch.where(longer, apply_operations(chains, operations), chains)
    parts = torch.from_numpy(weights).float().to(pixels.device).view(count, width, 1, 1, 1)
    share = torch.from_numpy(shares).float().to(pixels.device).view(-1, 1, 1, 1)
    mixed: Tensor = (parts * chains.unflatten(0, (count, width))).sum(dim=1)
    blended: Tensor = ((1 - share) * pixels + share * mixed).clamp(0, 1)
    return blended


def jensen_shannon(logits: Float[Tensor, "view image class"], scores: Scores) -> Float[Tensor, " image"]:
    """Jensen-Shannon divergence of the predictions of several views of each image, in [0, ln(views)].

    Args:
        logits: Of the views.
        scores: `softmax`: of the distributions over classes. `sigmoid`: mean over classes of those of present and
            absent, which is ours.

    Source: Hendrycks et al. 2020, section 3, with the clamp of the authors' code.
    """
    logs: Tensor = (
        logits.log_softmax(dim=-1)[:, :, None]
        if scores == "softmax"
        else functional.logsigmoid(torch.stack((logits, -logits), dim=-1))
    )
    mean = logs.exp().mean(dim=0).clamp(_LEAST_PROBABILITY, 1).log()
    divergences: Tensor = (logs.exp() * (logs - mean)).sum(dim=-1).mean(dim=(0, 2))
    return divergences
