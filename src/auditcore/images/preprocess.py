"""From an upright RGB image to the model's square in pixel space."""

from __future__ import annotations

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as vision

from auditcore.contracts.access import Limits
from auditcore.contracts.models import Preprocessing
from auditcore.errors import LimitExceeded


def to_pixels(
    image: Image.Image, preprocessing: Preprocessing, *, limits: Limits, field: str
) -> Float[Tensor, "3 side side"]:
    """Resize the shorter side, cut the center square, scale to [0, 1].

    Resampling is Pillow's, with antialiasing: the same numbers as torchvision's Resize, CenterCrop and ToTensor
    on a PIL image. An image that already measures `crop` x `crop` is only scaled to [0, 1].

    Args:
        image: Mode RGB, as `decode_image` returns it.
        preprocessing: Sizes in pixels and the interpolation; mean and std belong to the model and are not applied.
        limits: `image_pixels` also bounds the resized image, which for a very long one is larger than the file's.
        field: Where the image came from, for the error.

    Returns:
        float32 RGB in pixel space [0, 1], on the CPU.

    Raises:
        LimitExceeded: The image is so long that its resized form has too many pixels.
    """
    side = preprocessing.crop
    if image.size != (side, side):
        _check_resized(image, preprocessing.resize, limits, field)
        mode = InterpolationMode(preprocessing.interpolation)
        image = vision.resize(image, [preprocessing.resize], mode, antialias=True)
        image = vision.center_crop(image, [side, side])
    values: Tensor = vision.pil_to_tensor(image)
    return values.to(torch.float32).div_(255)


def _check_resized(image: Image.Image, resize: int, limits: Limits, field: str) -> None:
    pixels = resize * resize * max(image.size) // min(image.size)
    if pixels > limits.image_pixels:
        raise LimitExceeded(
            what="the image, resized for the model,",
            limit=limits.image_pixels,
            actual=pixels,
            unit="pixels",
            field=field,
        )
