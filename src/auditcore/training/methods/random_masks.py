"""Fine-tuning on images with random holes.

Source: Zheng et al. 2025, section 4 and the authors' code (pixels); Hesse et al. 2024, section 3 and the authors' code
(patches).
"""

from __future__ import annotations

import math
from typing import final

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from auditcore.contracts.training.methods.random_masks import RandomMasks, RandomPatches, RandomPixels
from auditcore.counts.cells import grid_of
from auditcore.errors import InvalidRequest
from auditcore.images.cells import cell_index
from auditcore.training.method import Method, MethodSetting, Step, TrainingBatch
from auditcore.training.network import Network


@final
class RandomMasksTraining(Method):
    """The cross-entropy of images of which random parts are masked."""

    def __init__(self, contract: RandomMasks, setting: MethodSetting) -> None:
        """Refuse a grid that does not fit the images.

        Raises:
            InvalidRequest: It has more patches along a side than the image has pixels.
        """
        self._contract = contract
        height, width = setting.network.start.shape.height, setting.network.start.shape.width
        if isinstance(contract.masks, RandomPatches) and contract.masks.grid > min(height, width):
            msg = (
                f"a grid of {contract.masks.grid} patches along the shorter side does not fit images of {height} x "
                f"{width} pixels; use at most {min(height, width)}"
            )
            raise InvalidRequest(msg, field="plan.method.masks.grid")

    def step(self, network: Network, batch: TrainingBatch) -> Step:
        """The loss of the masked batch; `masked_pixels` is the share of pixels that were masked."""
        masks = self._contract.masks
        masked = (masked_pixels(masks, batch) if isinstance(masks, RandomPixels) else masked_patches(masks, batch)).to(
            batch.pixels.device
        )
        fill = network.start.mean if self._contract.color == "mean" else torch.zeros_like(network.start.mean)
        pixels = torch.where(masked, fill, batch.pixels)
        loss = network.losses(network.logits(pixels), batch.targets).mean()
        return Step(loss, {"masked_pixels": float(masked.double().mean())})


def masked_pixels(masks: RandomPixels, batch: TrainingBatch) -> Bool[Tensor, "image 1 height width"]:
    """Draw which pixels of each image are masked: floor(beta * H * W) of them, with beta as `masks.draw` says."""
    count, (height, width) = len(batch), batch.pixels.shape[2:]
    factors = batch.random.random(count) if masks.draw == "uniform" else np.ones(count)
    masked = np.zeros((count, height * width), dtype=np.bool_)
    for row, factor in zip(masked, factors, strict=True):
        chosen = math.floor(masks.share * factor * (height * width))
        row[batch.random.choice(height * width, chosen, replace=False, shuffle=False)] = True
    return torch.from_numpy(masked.reshape(count, 1, height, width))


def masked_patches(masks: RandomPatches, batch: TrainingBatch) -> Bool[Tensor, "image 1 height width"]:
    """Draw which patches of each image are masked: none with the chance `unmasked`, else 1 to `patches` of them."""
    count, (height, width) = len(batch), batch.pixels.shape[2:]
    grid = grid_of(masks.grid, height, width)
    spared = batch.random.random(count) < masks.unmasked
    chosen = batch.random.integers(1, masks.patches + 1, size=count)
    masked = np.zeros((count, grid.cells), dtype=np.bool_)
    for row, spare, patches in zip(masked, spared, chosen, strict=True):
        places = batch.random.choice(grid.cells, patches, replace=False)
        row[places] = not spare
    return torch.from_numpy(masked)[:, cell_index(height, width, grid)][:, None]
