"""Flips and crops of training images."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.v2 import functional

from auditcore.contracts.training.basic_augmentation import BasicAugmentation


def augment(
    pixels: Float[Tensor, "image channel height width"], contract: BasicAugmentation, random: np.random.Generator
) -> Float[Tensor, "image channel height width"]:
    """Flip and crop each image at random.

    Args:
        pixels: Images in pixel space [0,1].
        contract: What to do.
        random: Generator of this step; draws the same numbers whatever the contract does with them.
    """
    height, width = pixels.shape[2:]
    padding = contract.crop_padding
    flipped = random.random(len(pixels)) < 0.5  # noqa: PLR2004 - every other image
    tops, lefts = random.integers(0, 2 * padding + 1, size=(2, len(pixels)))
    if contract.horizontal_flip:
        chosen = torch.from_numpy(flipped).to(pixels.device)[:, None, None, None]
        pixels = torch.where(chosen, functional.horizontal_flip(pixels), pixels)
    if padding:
        padded = functional.pad(pixels, [padding])
        pixels = torch.stack(
            [
                functional.crop(image, int(top), int(left), height, width)
                for image, top, left in zip(padded, tops, lefts, strict=True)
            ]
        )
    return pixels
