"""Simple augmentations of AugMix and PixMix, each image with its own operation and level.

Source: the authors' code of AugMix (Hendrycks et al. 2020), `augmentations.py`, which PixMix has too. What it computes
with Pillow on 8 bits is computed on 8 bits here: autocontrast and equalize by torchvision, which follows Pillow.
Rotation, shear and translation sample bilinearly without rounding; outside of the image is black. At its border, one
pixel is half black, where Pillow repeats the outermost pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional

from auditcore.augmentations.geometric import rotate, warp
from auditcore.contracts.input_shape import InputShape
from auditcore.errors import ModelNotTrainable

LOWEST_LEVEL: Final = 0.1
HIGHEST_LEVEL: Final = 10

_BITS, _DEGREES, _TONES, _SHEAR, _SIDES = 4, 30, 256, 0.3, 3
"""What the highest level does: bits taken away, degrees, tones inverted, pixels a pixel, shares of a side."""

_LEAST_FACTOR, _RANGE_OF_FACTORS = 0.1, 1.8
"""Of changes of color; 1 changes nothing."""


@final
@dataclass(frozen=True)
class Operations:
    """One augmentation for each image.

    Attributes:
        names: Of the operations, in `OPERATIONS`.
        levels: In [0.1, 10].
        signs: -1 or 1: the direction of rotations, shears and translations.
    """

    names: tuple[str, ...]
    levels: NDArray[np.float64]
    signs: NDArray[np.float64]


def require_colors(shape: InputShape, kind: str) -> None:
    """Refuse changes of color where they are not defined.

    Args:
        shape: Of the model's input.
        kind: The method that a message names.

    Raises:
        ModelNotTrainable: The model's images are neither gray nor in color.
    """
    if shape.channels not in {1, 3}:
        msg = (
            f"`all_operations` of method {kind!r} changes saturation and sharpness, which are defined for one or three "
            f"channels, and this model has {shape.channels}; set `all_operations` to false"
        )
        raise ModelNotTrainable(msg, field="plan.method.all_operations")


def draw_operations(
    random: np.random.Generator, count: int, *, severity: float, all_operations: bool = False
) -> Operations:
    """Draw an operation, a level and a direction for each image.

    Args:
        random: Generator on the CPU.
        count: Number of images.
        severity: Largest level.
        all_operations: Whether changes of color are among them.
    """
    names = tuple(OPERATIONS) if all_operations else PLAIN
    chosen = random.integers(len(names), size=count)
    levels = random.uniform(LOWEST_LEVEL, severity, size=count)
    signs = np.where(random.random(count) < 0.5, -1.0, 1.0)  # noqa: PLR2004 - half
    return Operations(tuple(names[one] for one in chosen), levels, signs)


def apply_operations(
    pixels: Float[Tensor, "image channel height width"], operations: Operations
) -> Float[Tensor, "image channel height width"]:
    """Apply to each image its own operation.

    Args:
        pixels: Images in pixel space [0,1].
        operations: One for each image.

    Returns:
        Augmented images in [0,1]; colors of changes of tone are multiples of 1/255.
    """
    result = pixels.clone()
    names = np.array(operations.names)
    for name in dict.fromkeys(operations.names):
        rows = np.flatnonzero(names == name)
        levels, signs = (torch.from_numpy(each[rows]) for each in (operations.levels, operations.signs))
        there = torch.from_numpy(rows).to(pixels.device)
        result[there] = OPERATIONS[name](pixels[there], levels, signs)
    return result


def _autocontrast(pixels: Tensor, _levels: Tensor, _signs: Tensor) -> Tensor:
    return _by_channel(functional.autocontrast, pixels)


def _equalize(pixels: Tensor, _levels: Tensor, _signs: Tensor) -> Tensor:
    return _by_channel(functional.equalize, pixels)


def _posterize(pixels: Tensor, levels: Tensor, _signs: Tensor) -> Tensor:
    taken = _whole(levels, _BITS)
    step = (2 ** (8 - _BITS + taken)).to(pixels.device).view(-1, 1, 1, 1)
    return ((_bytes(pixels).int() // step) * step).float() / 255


def _solarize(pixels: Tensor, levels: Tensor, _signs: Tensor) -> Tensor:
    threshold = (_TONES - _whole(levels, _TONES)).to(pixels.device).view(-1, 1, 1, 1)
    tones = _bytes(pixels).int()
    return torch.where(tones < threshold, tones, 255 - tones).float() / 255


def _rotate(pixels: Tensor, levels: Tensor, signs: Tensor) -> Tensor:
    return rotate(pixels, signs * _whole(levels, _DEGREES)).clamp(0, 1)


def _shear_x(pixels: Tensor, levels: Tensor, signs: Tensor) -> Tensor:
    return _sheared(pixels, signs * levels * _SHEAR / HIGHEST_LEVEL, axis=0)


def _shear_y(pixels: Tensor, levels: Tensor, signs: Tensor) -> Tensor:
    return _sheared(pixels, signs * levels * _SHEAR / HIGHEST_LEVEL, axis=1)


def _translate_x(pixels: Tensor, levels: Tensor, signs: Tensor) -> Tensor:
    return _moved(pixels, signs * _whole(levels, pixels.shape[3] / _SIDES), axis=0)


def _translate_y(pixels: Tensor, levels: Tensor, signs: Tensor) -> Tensor:
    return _moved(pixels, signs * _whole(levels, pixels.shape[2] / _SIDES), axis=1)


def _saturation(pixels: Tensor, levels: Tensor, _signs: Tensor) -> Tensor:
    return _away_from(functional.adjust_saturation(pixels, 0.0), pixels, levels)


def _contrast(pixels: Tensor, levels: Tensor, _signs: Tensor) -> Tensor:
    return _away_from(functional.adjust_contrast(pixels, 0.0), pixels, levels)


def _brightness(pixels: Tensor, levels: Tensor, _signs: Tensor) -> Tensor:
    return _away_from(torch.zeros_like(pixels), pixels, levels)


def _sharpness(pixels: Tensor, levels: Tensor, _signs: Tensor) -> Tensor:
    return _away_from(functional.adjust_sharpness(pixels, 0.0), pixels, levels)


OPERATIONS: Final[Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]]] = MappingProxyType(
    {
        "autocontrast": _autocontrast,
        "equalize": _equalize,
        "posterize": _posterize,
        "rotate": _rotate,
        "solarize": _solarize,
        "shear_x": _shear_x,
        "shear_y": _shear_y,
        "translate_x": _translate_x,
        "translate_y": _translate_y,
        "saturation": _saturation,
        "contrast": _contrast,
        "brightness": _brightness,
        "sharpness": _sharpness,
    }
)
"""Name -> (images, levels, signs) -> images."""

PLAIN: Final = tuple(OPERATIONS)[:-4]
"""The operations that do not overlap with the corruptions of ImageNet-C: all but the last four."""


def _whole(levels: Tensor, most: float) -> Tensor:
    """A whole number in proportion to a level, rounded down."""
    return (levels * most / HIGHEST_LEVEL).floor().long()


def _bytes(pixels: Tensor) -> Tensor:
    return (pixels * 255).round().to(torch.uint8)


def _by_channel(operation: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """Apply an operation on 8 bits to each channel; torchvision takes only some numbers of channels."""
    channels: Tensor = operation(_bytes(pixels).flatten(0, 1)[:, None])
    return channels.view(pixels.shape).float() / 255


def _sheared(pixels: Tensor, slopes: Tensor, *, axis: int) -> Tensor:
    """Shear so that the upper left corner stays.

    Args:
        pixels: The images.
        slopes: Pixels by which a source moves along the axis for each pixel across it.
        axis: 0 for x, 1 for y.
    """
    matrices = torch.eye(2, dtype=torch.float64).repeat(len(slopes), 1, 1)
    matrices[:, axis, 1 - axis] = slopes
    offsets = torch.zeros(len(slopes), 2, dtype=torch.float64)
    # positions of `warp` count from the center
    offsets[:, axis] = slopes * pixels.shape[2 + axis] / 2
    return warp(pixels, matrices, offsets).clamp(0, 1)


def _moved(pixels: Tensor, distances_px: Tensor, *, axis: int) -> Tensor:
    """Move against an axis by whole pixels."""
    matrices = torch.eye(2, dtype=torch.float64).repeat(len(distances_px), 1, 1)
    offsets = torch.zeros(len(distances_px), 2, dtype=torch.float64)
    offsets[:, axis] = distances_px
    return warp(pixels, matrices, offsets).clamp(0, 1)


def _away_from(base: Tensor, pixels: Tensor, levels: Tensor) -> Tensor:
    """Blend with a base, or away from it for factors above 1."""
    factors = levels * _RANGE_OF_FACTORS / HIGHEST_LEVEL + _LEAST_FACTOR
    factors = factors.float().to(pixels.device).view(-1, 1, 1, 1)
    return (base + factors * (pixels - base)).clamp(0, 1)
