"""Photometric augmentations, which move no pixel: contrast, and brightness, hue and saturation in HSV.

All four take images in pixel space, (N,C,H,W) in [0,1], and one value per image. Hue and saturation need RGB.
Brightness and contrast are defined for any channels: V is their maximum, and gray their luma for RGB, else their mean.
The results stay in [0,1]. None converts to HSV and back: with V = max(R,G,B) and chroma C = V - min(R,G,B) each change
has a closed form, which is faster and leaves the other components exact.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.devices.transfer import numbers_on, to_device
from auditcore.errors import ShapeError

LUMA = (0.2989, 0.587, 0.114)
"""ITU-R BT.601, rounded as torchvision rounds it."""


def brightness(
    images: Float[Tensor, "image channel height width"], values: Float[Tensor, " image"]
) -> Float[Tensor, "image channel height width"]:
    """Add a value to V of HSV; hue and saturation stay the same.

    rgb * clip(V + v, 0, 1) / V, and the gray clip(v, 0, 1) where V = 0.

    Args:
        images: In [0,1]; any number of channels.
        values: Added to V, as fractions of the value range, in [-1, 1].

    Returns:
        Changed images in [0,1].

    Source: Tetkova & Hansen 2023, for RGB.
    """
    value = images.amax(dim=1, keepdim=True)
    changed = (value + _per_image(values, images)).clamp(0, 1)
    # dividing first keeps the ratio in [0,1] even where V is denormal and 1/V would overflow
    shade = torch.where(value > 0, images / value, torch.ones_like(images))
    return shade * changed


def hue(
    images: Float[Tensor, "image channel height width"], values: Float[Tensor, " image"]
) -> Float[Tensor, "image channel height width"]:
    """Rotate the hue; saturation and value stay the same, so gray stays gray.

    Args:
        images: RGB in [0,1].
        values: Added to the hue, in degrees; 360 is a full turn.

    Returns:
        Changed images in [0,1].

    Raises:
        ShapeError: The images do not have three channels.

    Source: Tetkova & Hansen 2023; HSV after Smith 1978.
    """
    _require_rgb(images)
    red, green, blue = images.unbind(dim=1)
    value = images.amax(dim=1)
    chroma = value - images.amin(dim=1)
    safe = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    # sextant of the color wheel, in [-1, 5]; on ties the first channel that attains the maximum decides
    sextant = torch.where(
        red == value,
        (green - blue) / safe,
        torch.where(green == value, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    turned = sextant[:, None] + _per_image(values, images) / 60
    offsets = numbers_on([5.0, 3.0, 1.0], images.device, images.dtype).view(1, 3, 1, 1)
    position = (turned + offsets) % 6
    shade = torch.minimum(position, 4 - position).clamp(0, 1)
    return (value[:, None] - chroma[:, None] * shade).clamp(0, 1)


def saturation(
    images: Float[Tensor, "image channel height width"], values: Float[Tensor, " image"]
) -> Float[Tensor, "image channel height width"]:
    """Add a value to S of HSV; hue and value stay the same.

    A gray pixel has no hue. It gets a hue of 0 degrees, as in colorsys, scikit-image and OpenCV, so a higher saturation
    turns it red.

    Args:
        images: RGB in [0,1].
        values: Added to S, as fractions of the saturation range, in [-1, 1].

    Returns:
        Changed images in [0,1].

    Raises:
        ShapeError: The images do not have three channels.

    Source: Tetkova & Hansen 2023.
    """
    _require_rgb(images)
    value = images.amax(dim=1, keepdim=True)
    chroma = value - images.amin(dim=1, keepdim=True)
    ones = torch.ones_like(value)
    changed = (chroma / torch.where(value > 0, value, ones) + _per_image(values, images)).clamp(0, 1)
    red = numbers_on([0.0, 1.0, 1.0], images.device, images.dtype).view(1, 3, 1, 1)
    # distance of each channel from the largest, as a fraction of the chroma; it depends only on the hue
    shade = torch.where(chroma > 0, (value - images) / torch.where(chroma > 0, chroma, ones), red)
    return value * (1 - changed * shade)


def contrast(
    images: Float[Tensor, "image channel height width"], values: Float[Tensor, " image"]
) -> Float[Tensor, "image channel height width"]:
    """Scale the distance of every channel value from the image's mean gray, and clip.

    Args:
        images: In [0,1]; three channels are RGB.
        values: Factors, 0 or more; 0 gives the mean gray, values above 1 increase the contrast.

    Returns:
        Changed images in [0,1].

    Source: `adjust_contrast` of torchvision, for RGB.
    """
    if images.shape[1] == len(LUMA):
        luma = numbers_on(LUMA, images.device, images.dtype).view(1, 3, 1, 1)
        gray = (images * luma).sum(dim=1, keepdim=True)
    else:
        gray = images.mean(dim=1, keepdim=True)
    gray = gray.mean(dim=(2, 3), keepdim=True)
    return (gray + _per_image(values, images) * (images - gray)).clamp(0, 1)


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    return to_device(values, images.device).view(-1, 1, 1, 1)


def _require_rgb(images: Tensor) -> None:
    if images.shape[1] != 3:  # noqa: PLR2004 - R, G, B
        raise ShapeError(expected="3 channels (RGB)", actual=tuple(images.shape))
