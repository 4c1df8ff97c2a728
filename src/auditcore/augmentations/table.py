"""From a family's contract to its implementation, its grid of values and its valid pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from auditcore.augmentations import geometric, photometric
from auditcore.contracts.augmentations import (
    AugmentationContract,
    Brightness,
    Hue,
    Interval,
    Rotate,
    Saturation,
    Scale,
    Translate,
)
from auditcore.errors import NotApplicable, ShapeError

FAMILIES: Mapping[type[AugmentationContract], Callable[[Tensor, Tensor], Tensor]] = {
    Brightness: photometric.brightness,
    Hue: photometric.hue,
    Saturation: photometric.saturation,
    Rotate: geometric.rotate,
    Translate: geometric.translate,
    Scale: geometric.scale,
}
"""One function a family: (images, one value an image) to images."""

SAME_LEVEL = 1e-12
"""Two grid values closer than this are one: linspace misses a value such as 0 by about 1e-17."""

FULL_WEIGHT = 1 - 1e-3
"""A pixel counts as covered when its bilinear weights sum to this.

Source positions are rounded to float32, which at a side of 4096 pixels errs by about 5e-4 pixel, and
the weight lost at the border is that error. A pixel that truly straddles the border by less than a
thousandth of its weight is kept as well, and is off by at most a thousandth of its value.
"""


def augment(
    family: AugmentationContract,
    images: Float[Tensor, "image channel height width"],
    values: Float[Tensor, " value"],
) -> Float[Tensor, "image channel height width"]:
    """Change each image by its own value.

    Args:
        family: Which change; its interval plays no role here.
        images: Pixel space, RGB in [0,1]; equivariant families take maps with any channels and range.
        values: One value an image, in the family's unit. The identity returns the image bit for bit.

    Returns:
        Changed images of the same shape, type and device.

    Raises:
        ShapeError: Not one value an image, or a change of color of something that is not RGB.

    Source: Tetkova & Hansen 2023.
    """
    if len(values) != len(images):
        raise ShapeError(expected=f"one value for each of {len(images)} images", actual=tuple(values.shape))
    values = values.to(images.device)
    changed = FAMILIES[type(family)](images, values)
    return torch.where((values == family.identity).view(-1, 1, 1, 1), images, changed)


def valid_mask(
    family: AugmentationContract,
    values: Float[Tensor, " level"],
    size: tuple[int, ...],
    device: torch.device | str = "cpu",
) -> Bool[Tensor, "level 1 height width"]:
    """Pixels of a changed image that come wholly from inside the original.

    Comparing maps elsewhere compares fill with fill: a shared border of zeros lifts the correlation
    of unrelated maps to about 0.4.

    Args:
        family: Which change.
        values: One value a level.
        size: Height and width of the image.
        device: Where the mask shall live.

    Returns:
        True everywhere for changes of color; for changes of place, where a warped image of ones is 1.
    """
    height, width = size
    ones = torch.ones(len(values), 1, height, width, device=device)
    if not family.equivariant:
        return ones.bool()
    return augment(family, ones, values.to(ones)) >= FULL_WEIGHT


def inverse_value(family: AugmentationContract, value: float) -> float:
    """The value that undoes a change of place, apart from interpolation and what left the frame.

    Raises:
        NotApplicable: The family changes colors; clipping has no inverse.
    """
    match family:
        case Rotate() | Translate():
            return -value
        case Scale():
            return 1 / value
        case _:
            msg = f"{family.kind} clips colors and has no inverse"
            raise NotApplicable(msg)


def levels(family: AugmentationContract, interval: Interval, count: int) -> tuple[float, ...]:
    """Grid of values over an interval.

    Args:
        family: Whose identity must be on the grid.
        interval: Lowest and highest value, around the identity.
        count: Number of equidistant values, at least 2, ends included.

    Returns:
        Ascending values: the `count` equidistant ones, and the identity where they miss it.

    Source: Tetkova & Hansen 2023, which uses 11 values.
    """
    low, high = interval
    grid = [float(value) for value in np.linspace(low, high, count)]
    others = [value for value in grid if abs(value - family.identity) > SAME_LEVEL]
    return tuple(sorted([*others, family.identity]))
