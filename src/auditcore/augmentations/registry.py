"""From a family's contract to its implementation, its grid of values and its valid pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from auditcore.augmentations import degradation, geometric, photometric
from auditcore.augmentations import gmic as gmic_filters
from auditcore.augmentations.composition import value_at
from auditcore.contracts.augmentations import (
    AugmentationContract,
    Brightness,
    Composition,
    Contrast,
    GaussianBlur,
    GaussianNoise,
    Gmic,
    HorizontalFlip,
    Hue,
    Interval,
    JpegQuality,
    Rotate,
    Saturation,
    Scale,
    Translate,
)
from auditcore.devices.transfer import to_device
from auditcore.errors import NotApplicable, ShapeError
from auditcore.random_numbers.streams import Streams

Implementation = Callable[[Any, Tensor, Tensor, Streams | None], Tensor]


def _by_value(change: Callable[[Tensor, Tensor], Tensor]) -> Implementation:
    """A change that its value says all about."""
    return lambda _family, images, values, _streams: change(images, values)


def _gaussian_noise(_family: GaussianNoise, images: Tensor, values: Tensor, streams: Streams | None) -> Tensor:
    if streams is None:
        msg = "gaussian_noise draws from the images' random streams; pass `streams`"
        raise TypeError(msg)
    return degradation.gaussian_noise(images, values, streams)


def _gmic(family: Gmic, images: Tensor, values: Tensor, _streams: Streams | None) -> Tensor:
    return gmic_filters.gmic(images, values, family.filter)


def _composition(family: Composition, images: Tensor, values: Tensor, streams: Streams | None) -> Tensor:
    for part in (family.first, family.second):
        images = augment(part, images, value_at(part, values), streams)
    return images


FAMILIES: Mapping[type[AugmentationContract], Implementation] = {
    Brightness: _by_value(photometric.brightness),
    Hue: _by_value(photometric.hue),
    Saturation: _by_value(photometric.saturation),
    Contrast: _by_value(photometric.contrast),
    GaussianNoise: _gaussian_noise,
    GaussianBlur: _by_value(degradation.gaussian_blur),
    JpegQuality: _by_value(degradation.jpeg_quality),
    Gmic: _gmic,
    Rotate: _by_value(geometric.rotate),
    Translate: _by_value(geometric.translate),
    Scale: _by_value(geometric.scale),
    HorizontalFlip: _by_value(geometric.horizontal_flip),
    Composition: _composition,
}
"""One function a family: (family, images, one value an image, streams) to images."""

SAME_LEVEL = 1e-12
"""Two grid values closer than this are one: linspace misses a value such as 0 by about 1e-17."""

FULL_WEIGHT = 1 - 1e-3
"""A pixel counts as covered when its bilinear weights sum to this.

Source positions are rounded to float32, which at a side of 4096 pixels errs by about 5e-4 pixel, and
the weight lost at the border is that error. A pixel that truly straddles the border by less than a
thousandth of its weight is kept as well, and is off by at most a thousandth of its value.
"""


def applicability(family: AugmentationContract) -> str | None:
    """Why a family cannot be applied where this runs, or None if it can."""
    match family:
        case Gmic():
            return gmic_filters.obstacle()
        case Composition():
            return applicability(family.first) or applicability(family.second)
        case _:
            return None


def augment(
    family: AugmentationContract,
    images: Float[Tensor, "image channel height width"],
    values: Float[Tensor, " value"],
    streams: Streams | None = None,
) -> Float[Tensor, "image channel height width"]:
    """Change each image by its own value.

    Args:
        family: Which change; its interval plays no role here, but in a composition.
        images: Pixel space, RGB in [0,1].
        values: One value an image, in the family's unit. The identity returns the image bit for bit. Values on the host
            let an accelerator work on, since what depends on them is found without asking it.
        streams: Random streams of the images, without views; `gaussian_noise` alone needs them.

    Returns:
        Changed images of the same shape, type and device.

    Raises:
        NotApplicable: The family needs a package that is not installed; `applicability` tells beforehand.
        ShapeError: Not one value an image, or a change of color of something that is not RGB.
        TypeError: `gaussian_noise` without streams.

    Source: Tetkova & Hansen 2023; Erdem 2021 for G'MIC.
    """
    if len(values) != len(images):
        raise ShapeError(expected=f"one value for each of {len(images)} images", actual=tuple(values.shape))
    changed = FAMILIES[type(family)](family, images, values, streams)
    unchanged = to_device(values == family.identity, images.device)
    return torch.where(unchanged.view(-1, 1, 1, 1), images, changed)


def warp(
    family: AugmentationContract,
    maps: Float[Tensor, "image channel height width"],
    values: Float[Tensor, " value"],
) -> Float[Tensor, "image channel height width"]:
    """Move maps as a family moves the image, and change nothing else about them.

    Args:
        family: Which change; of a composition, only the families that move pixels play a role.
        maps: Any channels and range.
        values: One value a map, in the family's unit.

    Returns:
        Moved maps of the same shape, 0 where nothing was; the maps themselves for changes of color.

    Raises:
        ShapeError: Not one value a map.
    """
    match family:
        case Composition():
            return warp(
                family.second, warp(family.first, maps, value_at(family.first, values)), value_at(family.second, values)
            )
        case _ if family.equivariant:
            return augment(family, maps, values)
        case _:
            return maps


def unwarp(
    family: AugmentationContract,
    maps: Float[Tensor, "image channel height width"],
    values: Float[Tensor, " value"],
) -> Float[Tensor, "image channel height width"]:
    """Move maps back, apart from interpolation and what left the frame.

    Args:
        family: Which change; of a composition, only the families that move pixels play a role, last first.
        maps: Maps that `warp` has moved.
        values: The values with which it did.

    Returns:
        Maps where they were before.
    """
    match family:
        case Composition():
            return unwarp(
                family.first,
                unwarp(family.second, maps, value_at(family.second, values)),
                value_at(family.first, values),
            )
        case _ if family.equivariant:
            inverses = [inverse_value(family, value) for value in values.tolist()]
            return augment(family, maps, torch.tensor(inverses, dtype=values.dtype))
        case _:
            return maps


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
    return warp(family, ones, values.to(ones.dtype)) >= FULL_WEIGHT


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
        case HorizontalFlip():
            return value
        case _:
            msg = f"{family.label} loses what it changes and has no inverse"
            raise NotApplicable(msg)


def levels(family: AugmentationContract, interval: Interval, count: int) -> tuple[float, ...]:
    """Grid of values over an interval.

    Args:
        family: Whose identity must be on the grid.
        interval: Lowest and highest value, around the identity.
        count: Number of equidistant values, at least 2, ends included; a family that exists at its ends alone has
            those and the identity.

    Returns:
        Ascending values: the `count` equidistant ones, and the identity where they miss it.

    Source: Tetkova & Hansen 2023, which uses 11 values.
    """
    low, high = interval
    grid = [float(value) for value in (interval if family.only_ends else np.linspace(low, high, count))]
    others = [value for value in grid if abs(value - family.identity) > SAME_LEVEL]
    return tuple(sorted([*others, family.identity]))
