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
from auditcore.contracts.preprocessing import Colors
from auditcore.devices.transfer import to_device
from auditcore.errors import NotApplicable, ShapeError
from auditcore.random_numbers.streams import Streams

Implementation = Callable[[Any, Tensor, Tensor, Streams | None], Tensor]


def _by_value(change: Callable[[Tensor, Tensor], Tensor]) -> Implementation:
    """Wrap a change that depends only on its value."""
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
"""One function per augmentation: (augmentation, images, one value per image, streams) to images."""

FULL_WEIGHT = 1 - 1e-3
"""A pixel counts as covered when its bilinear weights sum to this.

Source positions are rounded to float32. At a side of 4096 pixels the error is about 5e-4 pixel, and a pixel at the
border loses that much weight. A pixel that really loses less than a thousandth of its weight is kept too; its value is
wrong by at most a thousandth.
"""


def applicability(augmentation: AugmentationContract, colors: Colors = "rgb") -> str | None:
    """Return why an augmentation cannot change the images of a model here, or None if it can.

    Args:
        augmentation: The augmentation.
        colors: What the channels of the model are.
    """
    undefined = augmentation.undefined_for(colors)
    if undefined is not None:
        return undefined
    match augmentation:
        case Gmic():
            return gmic_filters.incompatibility()
        case Composition():
            return applicability(augmentation.first, colors) or applicability(augmentation.second, colors)
        case _:
            return None


def augment(
    augmentation: AugmentationContract,
    images: Float[Tensor, "image channel height width"],
    values: Float[Tensor, " value"],
    streams: Streams | None = None,
    *,
    colors: Colors = "rgb",
) -> Float[Tensor, "image channel height width"]:
    """Change each image by its own value.

    Args:
        augmentation: The augmentation; its interval is used only in a composition.
        images: Pixel space, in [0,1].
        values: One value per image, in the augmentation's unit. The identity keeps every bit. Values on the host
            avoid a synchronization with the accelerator.
        streams: Random streams of the images, without views; only `gaussian_noise` needs them.
        colors: What the channels are; changes of color turn blue, green and red into the order that they are made for.

    Returns:
        Changed images of the same shape, type and device.

    Raises:
        NotApplicable: The augmentation needs a package that is not installed; call `applicability` first to check.
        ShapeError: The number of values is not the number of images, or the images of a change of color are not RGB.
        TypeError: `gaussian_noise` was called without streams.

    Source: Tetkova & Hansen 2023; Erdem 2021 for G'MIC.
    """
    if len(values) != len(images):
        raise ShapeError(expected=f"one value for each of {len(images)} images", actual=tuple(values.shape))
    if colors == "bgr":
        return augment(augmentation, images.flip(1), values, streams).flip(1)
    changed = AUGMENTATIONS[type(augmentation)](augmentation, images, values, streams)
    unchanged = to_device(values == augmentation.identity, images.device)
    return torch.where(unchanged.view(-1, 1, 1, 1), images, changed)


def warp(
    augmentation: AugmentationContract,
    maps: Float[Tensor, "image channel height width"],
    values: Float[Tensor, " value"],
) -> Float[Tensor, "image channel height width"]:
    """Move the pixels of maps as an augmentation moves those of the image.

    Args:
        augmentation: The augmentation; of a composition, only the augmentations that move pixels are applied.
        maps: Any number of channels and any range.
        values: One value per map, in the augmentation's unit.

    Returns:
        Moved maps of the same shape, 0 outside the original frame; for changes of color, the maps themselves.

    Raises:
        ShapeError: The number of values is not the number of maps.
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
    """Undo `warp`, except for interpolation and pixels that left the frame.

    Args:
        augmentation: The augmentation; of a composition, only the augmentations that move pixels are undone, the last
            one first.
        maps: Maps that `warp` has moved.
        values: The values that `warp` was called with.

    Returns:
        Maps in their original position.
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
    """Return the pixels of a changed image whose value comes only from inside the original.

    Elsewhere, a comparison of maps would compare fill with fill: a shared border of zeros raises the correlation of
    unrelated maps to about 0.4.

    Args:
        augmentation: The augmentation.
        values: One value per level.
        size: Height and width of the image.
        device: Device of the mask.

    Returns:
        For changes of color, True everywhere. For geometric changes, True where a warped image of ones is 1.
    """
    height, width = size
    ones = torch.ones(len(values), 1, height, width, device=device)
    return warp(augmentation, ones, values.to(ones.dtype)) >= FULL_WEIGHT


def inverse_value(augmentation: AugmentationContract, value: float) -> float:
    """Return the value that undoes a geometric change, except for interpolation and pixels that left the frame.

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
            msg = f"{augmentation.label} has no inverse: it loses information"
            raise NotApplicable(msg)
