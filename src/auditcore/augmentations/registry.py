"""From an augmentation's contract to its implementation and its valid pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

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
    return lambda _augmentation, images, values, _streams: change(images, values)


def _gaussian_noise(_augmentation: GaussianNoise, images: Tensor, values: Tensor, streams: Streams | None) -> Tensor:
    if streams is None:
        msg = "gaussian_noise draws from the images' random streams; pass `streams`"
        raise TypeError(msg)
    return degradation.gaussian_noise(images, values, streams)


def _gmic(augmentation: Gmic, images: Tensor, values: Tensor, _streams: Streams | None) -> Tensor:
    return gmic_filters.gmic(images, values, augmentation.filter)


def _composition(augmentation: Composition, images: Tensor, values: Tensor, streams: Streams | None) -> Tensor:
    for part in (augmentation.first, augmentation.second):
        images = augment(part, images, value_at(part, values), streams)
    return images


AUGMENTATIONS: Mapping[type[AugmentationContract], Implementation] = {
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
"""One function an augmentation: (augmentation, images, one value an image, streams) to images."""

FULL_WEIGHT = 1 - 1e-3
"""A pixel counts as covered when its bilinear weights sum to this.

Source positions are rounded to float32, which at a side of 4096 pixels errs by about 5e-4 pixel, and
the weight lost at the border is that error. A pixel that truly straddles the border by less than a
thousandth of its weight is kept as well, and is off by at most a thousandth of its value.
"""


def applicability(augmentation: AugmentationContract) -> str | None:
    """Why an augmentation cannot be applied where this runs, or None if it can."""
    match augmentation:
        case Gmic():
            return gmic_filters.incompatibility()
        case Composition():
            return applicability(augmentation.first) or applicability(augmentation.second)
        case _:
            return None


def augment(
    augmentation: AugmentationContract,
    images: Float[Tensor, "image channel height width"],
    values: Float[Tensor, " value"],
    streams: Streams | None = None,
) -> Float[Tensor, "image channel height width"]:
    """Change each image by its own value.

    Args:
        augmentation: Which change; its interval plays no role here, but in a composition.
        images: Pixel space, RGB in [0,1].
        values: One value per image, in the augmentation's unit. The identity keeps every bit. Values on the host
            let an accelerator work on, since what depends on them is found without asking it.
        streams: Random streams of the images, without views; `gaussian_noise` alone needs them.

    Returns:
        Changed images of the same shape, type and device.

    Raises:
        NotApplicable: The augmentation needs a package that is not installed; `applicability` tells beforehand.
        ShapeError: Not one value an image, or a change of color of something that is not RGB.
        TypeError: `gaussian_noise` without streams.

    Source: Tetkova & Hansen 2023; Erdem 2021 for G'MIC.
    """
    if len(values) != len(images):
        raise ShapeError(expected=f"one value for each of {len(images)} images", actual=tuple(values.shape))
    changed = AUGMENTATIONS[type(augmentation)](augmentation, images, values, streams)
    unchanged = to_device(values == augmentation.identity, images.device)
    return torch.where(unchanged.view(-1, 1, 1, 1), images, changed)


def warp(
    augmentation: AugmentationContract,
    maps: Float[Tensor, "image channel height width"],
    values: Float[Tensor, " value"],
) -> Float[Tensor, "image channel height width"]:
    """Move maps as an augmentation moves the image, and change nothing else about them.

    Args:
        augmentation: Which change; of a composition, only the augmentations that move pixels play a role.
        maps: Any channels and range.
        values: One value a map, in the augmentation's unit.

    Returns:
        Moved maps of the same shape, 0 where nothing was; the maps themselves for changes of color.

    Raises:
        ShapeError: Not one value a map.
    """
    match augmentation:
        case Composition():
            return warp(
                augmentation.second,
                warp(augmentation.first, maps, value_at(augmentation.first, values)),
                value_at(augmentation.second, values),
            )
        case _ if augmentation.equivariant:
            return augment(augmentation, maps, values)
        case _:
            return maps


def unwarp(
    augmentation: AugmentationContract,
    maps: Float[Tensor, "image channel height width"],
    values: Float[Tensor, " value"],
) -> Float[Tensor, "image channel height width"]:
    """Move maps back, apart from interpolation and what left the frame.

    Args:
        augmentation: Which change; of a composition, only the augmentations that move pixels play a role, last first.
        maps: Maps that `warp` has moved.
        values: The values with which it did.

    Returns:
        Maps where they were before.
    """
    match augmentation:
        case Composition():
            return unwarp(
                augmentation.first,
                unwarp(augmentation.second, maps, value_at(augmentation.second, values)),
                value_at(augmentation.first, values),
            )
        case _ if augmentation.equivariant:
            inverses = [inverse_value(augmentation, value) for value in values.tolist()]
            return augment(augmentation, maps, torch.tensor(inverses, dtype=values.dtype))
        case _:
            return maps


def valid_mask(
    augmentation: AugmentationContract,
    values: Float[Tensor, " level"],
    size: tuple[int, ...],
    device: torch.device | str = "cpu",
) -> Bool[Tensor, "level 1 height width"]:
    """Pixels of a changed image that come wholly from inside the original.

    Comparing maps elsewhere compares fill with fill: a shared border of zeros lifts the correlation
    of unrelated maps to about 0.4.

    Args:
        augmentation: Which change.
        values: One value a level.
        size: Height and width of the image.
        device: Where the mask shall live.

    Returns:
        True everywhere for changes of color; for changes of place, where a warped image of ones is 1.
    """
    height, width = size
    ones = torch.ones(len(values), 1, height, width, device=device)
    return warp(augmentation, ones, values.to(ones.dtype)) >= FULL_WEIGHT


def inverse_value(augmentation: AugmentationContract, value: float) -> float:
    """The value that undoes a change of place, apart from interpolation and what left the frame.

    Raises:
        NotApplicable: The augmentation changes colors; clipping has no inverse.
    """
    match augmentation:
        case Rotate() | Translate():
            return -value
        case Scale():
            return 1 / value
        case HorizontalFlip():
            return value
        case _:
            msg = f"{augmentation.label} loses what it changes and has no inverse"
            raise NotApplicable(msg)
