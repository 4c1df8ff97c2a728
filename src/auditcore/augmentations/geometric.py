"""Geometric augmentations: rotate, translate and scale (bilinear, filled with 0), and the flip, which is exact.

A pixel's position is that of its center: row i lies at i, and the image's center at (H-1)/2. The functions take any
number of channels and any range, so the same code warps images and attribution maps.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from auditcore.devices.transfer import numbers_on, to_device

Matrices = Float[Tensor, "image 2 2"]
Offsets = Float[Tensor, "image 2"]


def rotate(
    images: Float[Tensor, "image channel height width"], values: Float[Tensor, " image"]
) -> Float[Tensor, "image channel height width"]:
    """Rotate about the center.

    Args:
        images: Images or maps.
        values: Angles in degrees, counter-clockwise as seen on the screen (rows pointing down).

    Returns:
        Rotated images, 0 outside the original frame.
    """
    angle = torch.deg2rad(values.double())
    cos, sin = angle.cos(), angle.sin()
    # output (x, y) is sampled at the position rotated back: x' = cos x - sin y, y' = sin x + cos y (y points down)
    matrices = torch.stack((torch.stack((cos, -sin), dim=-1), torch.stack((sin, cos), dim=-1)), dim=-2)
    return warp(images, matrices, matrices.new_zeros(len(values), 2))


def translate(
    images: Float[Tensor, "image channel height width"], values: Float[Tensor, " image"]
) -> Float[Tensor, "image channel height width"]:
    """Shift right and down by the same fraction of each side.

    Args:
        images: Images or maps.
        values: Fractions of width and height; negative shifts left and up. Not rounded to whole pixels.

    Returns:
        Shifted images, 0 outside the original frame.
    """
    shift = values.double()
    height, width = images.shape[-2:]
    offsets = torch.stack((-shift * width, -shift * height), dim=-1)
    return warp(images, torch.eye(2, dtype=shift.dtype, device=shift.device).repeat(len(values), 1, 1), offsets)


def scale(
    images: Float[Tensor, "image channel height width"], values: Float[Tensor, " image"]
) -> Float[Tensor, "image channel height width"]:
    """Zoom about the center.

    Args:
        images: Images or maps.
        values: Factors above 0; above 1 enlarges.

    Returns:
        Zoomed images of the same size, 0 outside the original frame.
    """
    factors = values.double()
    matrices = torch.eye(2, dtype=factors.dtype, device=factors.device) / factors[:, None, None]
    return warp(images, matrices, matrices.new_zeros(len(values), 2))


def horizontal_flip(
    images: Float[Tensor, "image channel height width"], values: Float[Tensor, " image"]
) -> Float[Tensor, "image channel height width"]:
    """Mirror left to right, exactly.

    Args:
        images: Images or maps.
        values: 1 for the mirror image, 0 for the original; no other values.

    Returns:
        Mirrored images.
    """
    return torch.where(to_device(values == 1, images.device).view(-1, 1, 1, 1), images.flip(-1), images)


def warp(
    images: Float[Tensor, "image channel height width"], matrices: Matrices, offsets: Offsets
) -> Float[Tensor, "image channel height width"]:
    """Sample each image at matrix (x, y) + offset, in pixels from the center, bilinearly; 0 outside the frame.

    Args:
        images: Images or maps.
        matrices: One for each image; rows give x and y of the source.
        offsets: x and y, one for each image.

    `align_corners=False` is torch's name for positions t = (2 i + 1) / H - 1. The center of the pixel centers is then
    t = 0 for every side, odd, even or 1, so the convention is exact. (`True` gives the same positions but divides by
    H - 1.) Positions are computed in float64 and rounded once: at 224 pixels, float32 positions are wrong by up to
    1e-5 pixel.
    """
    height, width = images.shape[-2:]
    x = torch.arange(width, dtype=torch.float64, device=images.device) - (width - 1) / 2
    y = torch.arange(height, dtype=torch.float64, device=images.device) - (height - 1) / 2
    centered = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)
    matrices, offsets = (to_device(each, images.device) for each in (matrices, offsets))
    source = torch.einsum("nij,hwj->nhwi", matrices, centered) + offsets[:, None, None]
    half_sides = numbers_on([width / 2, height / 2], images.device, torch.float64)
    grid = (source / half_sides).to(images.dtype)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
