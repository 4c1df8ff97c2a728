"""The images of the first look at a model: textured like photos, because some models cannot take one color."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.contracts.input_shape import InputShape

_WAVES = 6
"""Waves per channel; from long ones, as surfaces have, to short ones, as textures have."""


def probe_images(shape: InputShape, *, count: int) -> Float[Tensor, "count channel height width"]:
    """Return fixed images in pixel space [0,1] on the CPU: waves of random directions plus a little noise.

    No image and no channel has one color, and no two images are alike.

    Args:
        shape: Channels, height and width.
        count: Number of images.
    """
    generator = torch.Generator().manual_seed(20)
    rows = torch.linspace(0, 1, shape.height)[:, None]
    columns = torch.linspace(0, 1, shape.width)[None, :]
    drawn = torch.rand(count, shape.channels, _WAVES, 3, generator=generator)
    images = torch.zeros(count, *shape)
    for wave in range(_WAVES):
        phase, direction, strength = (drawn[:, :, wave, part, None, None] for part in range(3))
        length = 2.0**wave
        angle = math.pi * direction
        along = angle.cos() * columns + angle.sin() * rows
        images += strength * (2 * math.pi * (length * along + phase)).sin() / length
    images += 0.1 * torch.rand(images.shape, generator=generator)
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    return (images - low) / (high - low)
