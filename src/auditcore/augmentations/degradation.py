"""Augmentations that reduce quality and move no pixel: noise, blur, JPEG.

All three take images in pixel space, in [0,1], and one value per image. The results stay in [0,1].
"""

from __future__ import annotations

import io

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from auditcore.devices.transfer import numbers_on, to_device
from auditcore.errors import ShapeError
from auditcore.random_numbers.streams import Streams

TRUNCATE = 4.0
"""A Gaussian is cut off this many sigmas from its center, as in scipy; 6e-5 of it lies beyond."""

SUBSAMPLING = "4:2:0"
"""Chroma at half the resolution, the default of cameras, browsers, libjpeg and Pillow."""


def gaussian_noise(
    images: Float[Tensor, "image channel height width"], values: Float[Tensor, " image"], streams: Streams
) -> Float[Tensor, "image channel height width"]:
    """Add independent normal noise to every channel value and clip.

    Every copy of an image gets the same noise, scaled by its value. A curve over values therefore shows one image with
    more and more of the same noise.

    Args:
        images: Images in [0,1].
        values: Standard deviations, as fractions of the value range.
        streams: Random streams of these images; copies of one image share a stream.

    Returns:
        Noisy images in [0,1].

    Raises:
        ShapeError: The number of streams is not the number of images.
    """
    if len(streams) != len(images):
        raise ShapeError(expected=f"one stream for each of {len(images)} images", actual=len(streams))
    names = list(zip(streams.digests, streams.views or streams.digests, strict=True))
    distinct = {name: position for position, name in reversed(list(enumerate(names)))}
    drawn = streams.take(list(distinct.values())).normal(
        tuple(images.shape[1:]), "augmentation/gaussian_noise", device=images.device
    )
    row = {name: number for number, name in enumerate(distinct)}
    fields = drawn.to(images.dtype)[numbers_on([row[name] for name in names], images.device, torch.long)]
    scales = to_device(values, images.device).to(images.dtype).view(-1, 1, 1, 1)
    return (images + scales * fields).clamp(0, 1)


def gaussian_blur(
    images: Float[Tensor, "image channel height width"], values: Float[Tensor, " image"]
) -> Float[Tensor, "image channel height width"]:
    """Convolve each image with a Gaussian of its own sigma; edges are mirrored.

    The kernel ends 4 sigmas from its center. Along a side of 224 pixels, a blur is a 224 x 224 matrix for any sigma.
    Images with different sigmas therefore share a batch, with two matrix products per image.

    Args:
        images: Images.
        values: Sigma in pixels, 0 or more.

    Returns:
        Blurred images.
    """
    height, width = images.shape[-2:]
    rows, columns = (_blur_matrices(values, side, images.device).to(images.dtype) for side in (height, width))
    return rows[:, None] @ images @ columns[:, None].mT


def _blur_matrices(
    sigmas: Float[Tensor, " image"], side: int, device: torch.device
) -> Float[Tensor, "image side side"]:
    """Weight of each source pixel in each blurred pixel of a line; both edges are mirrored, edge pixels count once."""
    # the widest kernel is computed on the host, where the values come from
    reach = int((TRUNCATE * sigmas.cpu().double() + 0.5).floor().max()) if len(sigmas) else 0
    sigma = to_device(sigmas, device).double()[:, None]
    radius = (TRUNCATE * sigma + 0.5).floor()
    offsets = torch.arange(-reach, reach + 1, device=sigma.device)
    # a sigma of 0 keeps only the center
    weights = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-9)).square()) * (offsets.abs() <= radius)
    weights = weights / weights.sum(dim=1, keepdim=True)
    targets = torch.arange(side, device=sigma.device)
    period = max(1, 2 * (side - 1))
    folded = (targets[:, None] + offsets) % period
    sources = torch.minimum(folded, period - folded) if side > 1 else torch.zeros_like(folded)
    matrices = torch.zeros(len(sigmas), side, side, dtype=torch.float64, device=sigma.device)
    return matrices.scatter_add_(
        2, sources.expand(len(sigmas), -1, -1), weights[:, None].expand(-1, side, -1).contiguous()
    )


def jpeg_quality(
    images: Float[Tensor, "image channel height width"], values: Float[Tensor, " image"]
) -> Float[Tensor, "image channel height width"]:
    """Encode as JPEG with chroma at half the resolution and decode again, on the CPU, one image at a time.

    Args:
        images: RGB or gray in [0,1]; they are rounded to 8 bits first.
        values: Quality from 1 to 100; they are rounded to whole numbers.

    Returns:
        Decoded images in [0,1], on the device of the images.

    Raises:
        ShapeError: The images have neither three channels nor one.
    """
    if images.shape[1] not in {1, 3}:
        raise ShapeError(expected="3 channels (RGB) or 1 (gray)", actual=tuple(images.shape))
    bytes_ = images.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    decoded = [_jpeg(array, round(quality)) for array, quality in zip(bytes_, values.tolist(), strict=True)]
    pixels = torch.from_numpy(np.stack(decoded)) if decoded else torch.empty(bytes_.shape)
    return pixels.permute(0, 3, 1, 2).to(images) / 255


def _jpeg(array: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    gray = array.shape[2] == 1
    Image.fromarray(array[:, :, 0] if gray else array).save(
        file, format="JPEG", quality=quality, **({} if gray else {"subsampling": SUBSAMPLING})
    )
    with Image.open(file) as decoded:
        return np.array(decoded).reshape(array.shape)
